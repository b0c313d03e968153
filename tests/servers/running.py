"""Real LLM servers as processes of their own, with the model of tale.py, out of a virtual environment of their own.

torch does not belong into the project's: `make servers` makes .venv-servers, SSEPROXY_SERVERS_VENV names another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.harness import Server, free_port, start
from tests.harness.servers import ROOT

VENV = Path(os.environ.get("SSEPROXY_SERVERS_VENV") or ROOT / ".venv-servers").absolute()
TALE = Path(__file__).with_name("tale.py")
KEY = "sk-of-the-server"


@dataclass
class RealServer:
    """A server that answers at `url` (with its ``/v1``) for these `models`: the name clients use → its own."""

    url: str
    models: dict[str, str]
    process: Server


def has(*modules: str) -> bool:
    """Whether the servers' Python can import these, without doing so."""
    python = VENV / "bin" / "python"
    code = f"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {modules!r})))"
    return python.exists() and subprocess.run([str(python), "-c", code], capture_output=True).returncode == 0


@contextlib.contextmanager
def transformers_serve(directory: Path) -> Iterator[RealServer]:
    """``transformers serve``, offline and with no model but the tale's, whose name is its path."""
    model = directory / "tale"
    _write_tale(model)
    port = free_port()
    command = [str(VENV / "bin" / "transformers"), "serve", str(model), "--host", "127.0.0.1", "--port", str(port),
               "--device", "cpu"]  # fmt: skip
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(directory / "empty"), "OMP_NUM_THREADS": "1"}
    with start(command, port, directory, environment, timeout=90) as process:
        yield RealServer(f"http://127.0.0.1:{port}/v1", {"tale": str(model)}, process)


@contextlib.contextmanager
def llama_cpp_server(directory: Path) -> Iterator[RealServer]:
    """llama-cpp-python's server with the tale under three names: for chat, for tools, for embeddings."""
    model = directory / "tale.gguf"
    _write_tale(model)
    port = free_port()
    common = {"model": str(model), "n_threads": 1, "verbose": False}
    models = [
        {"model_alias": "tale-chat", "n_ctx": 4096, "logits_all": True, **common},
        {"model_alias": "tale-tools", "n_ctx": 512, "chat_format": "chatml-function-calling", **common},
        {"model_alias": "tale-vectors", "n_ctx": 256, "embedding": True, **common},
    ]
    # Without interrupt_requests a later request waits for the one that runs, instead of ending it.
    settings = {"host": "127.0.0.1", "port": port, "api_key": KEY, "interrupt_requests": False, "models": models}
    config = directory / "llama.json"
    config.write_text(json.dumps(settings), "utf-8")
    command = [str(VENV / "bin" / "python"), "-m", "llama_cpp.server", "--config_file", str(config)]
    with start(command, port, directory) as process:
        names = {"tale": "tale-chat", "tools": "tale-tools", "vectors": "tale-vectors"}
        yield RealServer(f"http://127.0.0.1:{port}/v1", names, process)


def _write_tale(target: Path) -> None:
    made = subprocess.run([str(VENV / "bin" / "python"), str(TALE), str(target)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
