"""Other gateways to compare with, each of one version; installed into ``build/bench/peers`` when first asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from benchmarks.load.build import BUILD, Missing
from benchmarks.load.servers import KEY, UPSTREAM_KEY, Launch, Place


@dataclass(frozen=True)
class Peer:
    """One of them."""

    version: str
    install: Callable[[Path, str], None]
    launch: Callable[[Path, Place], Launch]


def peer(name: str) -> Callable[[Place], Launch]:
    """How it is started; installs it first.

    :raises Missing: when started, if it cannot be installed.
    """
    chosen = PEERS[name]

    def launch(place: Place) -> Launch:
        directory = BUILD / "peers" / f"{name}-{chosen.version}"
        complete = directory / "complete"
        if not complete.exists():
            print(f"installing {name} {chosen.version} into {directory}", flush=True)
            directory.mkdir(parents=True, exist_ok=True)
            chosen.install(directory, chosen.version)
            complete.touch()
        return chosen.launch(directory, place)

    return launch


def _run(*command: str) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise Missing(f"{command[0]} is not installed")
    done = subprocess.run([program, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Missing(f"{' '.join(command)} failed: {done.stdout[-500:]}")


def _install_litellm(directory: Path, version: str) -> None:
    _run(sys.executable, "-m", "venv", str(directory))
    _run(str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", f"litellm[proxy]=={version}")


def _launch_litellm(directory: Path, place: Place) -> Launch:
    settings = {"model": "openai/*", "api_base": f"http://127.0.0.1:{place.upstream}/v1", "api_key": UPSTREAM_KEY}
    config = {
        "model_list": [{"model_name": "*", "litellm_params": settings}],
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"telemetry": False},
    }
    path = place.directory / "litellm.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    program = str(directory / "bin" / "litellm")
    command = [program, "--config", str(path), "--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1"]
    env = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Launch(command, env=env, patience=120)


def _install_portkey(directory: Path, version: str) -> None:
    package = {
        "private": True,
        "dependencies": {"@portkey-ai/gateway": version},
        # Later ones make it fail with "immutable": https://github.com/Portkey-AI/gateway/issues/1389
        "overrides": {"@hono/node-server": "1.13.8"},
    }
    (directory / "package.json").write_text(json.dumps(package), "utf-8")
    _run("npm", "install", "--prefix", str(directory), "--no-audit", "--no-fund")


def _launch_portkey(directory: Path, place: Place) -> Launch:
    node = shutil.which("node")
    if node is None:
        raise Missing("node is not installed")
    server = directory / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    config = {"provider": "openai", "custom_host": f"http://127.0.0.1:{place.upstream}/v1", "api_key": UPSTREAM_KEY}
    headers = (f"Authorization: Bearer {KEY}", f"x-portkey-config: {json.dumps(config)}")
    command = [node, str(server), f"--port={place.port}", "--headless"]
    return Launch(command, headers, ready="/", patience=60)


PEERS: Final = {
    "litellm": Peer("1.106.2", _install_litellm, _launch_litellm),
    "portkey": Peer("1.15.2", _install_portkey, _launch_portkey),
}
