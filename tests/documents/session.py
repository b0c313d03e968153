"""Does what a reader of a page does: keeps its files, starts its servers, types its commands, all in one folder.

Put in place of what the page says are the port, the directory of a program, the address of a deployment, for a vendor's
API and for the demo one that answers at once, and a single second of silence for the doctor to try.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from click.testing import CliRunner

from sseproxy.cli import main
from tests.documents.blocks import Block
from tests.harness.parts import require_node_clients, require_tool
from tests.harness.servers import ROOT, free_port, launch
from tests.harness.waiting import PATIENCE

CLIENTS = ROOT / "tests" / "clients"
BROWSER = ROOT / "tests" / "documents" / "browser.mjs"
VENDOR = "https://api.openai.com"
DEPLOYED = "https://llm.example.com"
#: Commands that go on until they are stopped, and how each is told where to listen.
SERVERS = {"sseproxy serve": "--listen", "gunicorn": "--bind", "waitress-serve": None}
MODULES = {"waitress-serve": "waitress"}
"""The package that is run by a command that has another name."""


class Session:
    """One page. To be closed: its server runs until then, or until the page starts another one.

    :param directory: an empty one.
    :param vendor: address of what stands in for :data:`VENDOR`.
    """

    def __init__(self, directory: Path, vendor: str) -> None:
        self._directory = directory
        self._port = free_port()
        self._vendor = vendor
        self._server = contextlib.ExitStack()
        self._variables = {"SSEPROXY_KEY": "sk-demo", "OPENAI_API_KEY": "sk-upstream"}
        self._scripts: dict[Block, str] = {}
        self._make_commands()

    def close(self) -> None:
        """Stop what runs."""
        self._server.close()

    def run(self, block: Block) -> None:
        """Do what `block` says; JavaScript at the end, see :meth:`finish`.

        :raises AssertionError: it failed; with what it printed.
        """
        code = self._substituted(block.code)
        if block.file:
            (self._directory / block.file).write_text(code, "utf-8")
        if block.is_served:
            return
        if block.language == "javascript":
            self._scripts[block] = code
            return
        {
            "sh": self._run_commands,
            "yaml": self._check,
            "python": self._run_python,
            "json": yaml.safe_load,
        }[block.language](code)

    def _substituted(self, code: str) -> str:
        code = code.replace("127.0.0.1:8080", f"127.0.0.1:{self._port}").replace(VENDOR, self._vendor)
        code = code.replace("sseproxy.demo:app", "tests.documents.brisk:app")
        code = code.replace(DEPLOYED, f"http://127.0.0.1:{self._port}").replace("sk-…", "sk-demo")
        code = re.sub(r"^sseproxy doctor .*", r"\g<0> --idle 1", code, flags=re.M)
        return re.sub(r"^make run\b", "sseproxy serve", code.replace(".venv/bin/", ""), flags=re.M)

    def _run_commands(self, code: str) -> None:
        for is_server, lines in _parts(code):
            if is_server:
                self._start(lines)
            else:
                self._call(["bash", "-euo", "pipefail", "-c", lines])

    def _start(self, line: str) -> None:
        self._server.close()
        words = shlex.split(os.path.expandvars(line), comments=True)
        listen = next(option for name, option in SERVERS.items() if line.startswith(name))
        if listen:
            words += [listen, f"127.0.0.1:{self._port}"]
        if words[0] == "gunicorn":  # of itself it stays in the directory in which it was imported
            words += ["--chdir", str(self._directory)]
        command = [MODULES.get(words[0], words[0]), *words[1:]]
        self._server.enter_context(launch("gthread", command, self._port, self._directory, self._environment))

    def _check(self, code: str) -> None:
        """What a whole configuration needs besides a fragment has a default, but for variables."""
        file = self._directory / "fragment.yaml"
        file.write_text(code, "utf-8")
        variables = dict.fromkeys(re.findall(r"\$\{(\w+)\}", code), "sk-" + 40 * "x")
        self._variables = {**variables, **self._variables}
        checked = CliRunner().invoke(main, ["check", "-c", str(file)], env=self._variables)
        assert checked.exit_code == 0, checked.output

    def _run_python(self, code: str) -> None:
        (self._directory / "block.py").write_text(code, "utf-8")
        self._call([sys.executable, "block.py"])

    def finish(self) -> None:
        """Run the JavaScript, which is kept for the end: in one process, where each block has a ``show`` of its own.

        :raises AssertionError: a block failed, or did not show the answer.
        """
        if not self._scripts:
            return
        require_node_clients()
        (self._directory / "node_modules").symlink_to(CLIENTS / "node_modules")
        for block, code in self._scripts.items():
            told = f"const show = (text) => told({block.line}, text); "
            (self._directory / f"{block.line}.mjs").write_text(told + code, "utf-8")
        names = [f"{block.line}.mjs" for block in self._scripts]
        shown = json.loads(self._call(["node", str(BROWSER), f"http://127.0.0.1:{self._port}", *names]))
        for block in self._scripts:
            assert "Hello" in shown.get(str(block.line), ""), f"{block}: it showed no answer; that repeats the question"

    def parse(self, block: Block) -> None:
        """What cannot be run can be read: JavaScript by Node.js, shell by bash."""
        if block.language == "javascript":
            require_tool("node")
            (self._directory / "parsed.mjs").write_text(block.code, "utf-8")
            self._call(["node", "--check", "parsed.mjs"])
        if block.language == "sh":
            self._call(["bash", "-n", "-c", block.code])
        if block.language == "python":
            compile(block.code, str(block), "exec")
        if block.language == "yaml":
            list(yaml.safe_load_all(block.code))

    def _call(self, command: list[str]) -> str:
        environment = {**os.environ, **self._environment}
        done = subprocess.run(
            command, cwd=self._directory, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        print(done.stdout, done.stderr)
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def _environment(self) -> dict[str, str]:
        path = f"{self._directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
        packages = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return {**self._variables, "PATH": path, "PYTHONPATH": packages, "COLUMNS": "200"}

    def _make_commands(self) -> None:
        """The programs as they are called where all is installed; curl says by its exit code if it is refused."""
        folder = self._directory / "bin"
        folder.mkdir()
        commands = {
            "sseproxy": f'"{sys.executable}" -m sseproxy',
            "python": f'"{sys.executable}"',
            "curl": f"{require_tool('curl')} --fail-with-body --silent --show-error --max-time {PATIENCE:.0f}",
        }
        for name, command in commands.items():
            (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n', "utf-8")
            (folder / name).chmod(0o755)


def _parts(code: str) -> Iterator[tuple[bool, str]]:
    """Commands that are servers, each alone, and what stands between them."""
    waiting: list[str] = []
    for line in re.sub(r"\\\n\s*", "", code).splitlines():
        if line.startswith(tuple(SERVERS)):
            if any(map(str.strip, waiting)):
                yield False, "\n".join(waiting)
            waiting = []
            yield True, line
        else:
            waiting.append(line)
    if any(map(str.strip, waiting)):
        yield False, "\n".join(waiting)
