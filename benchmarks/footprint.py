"""What sseproxy costs before it does anything: CPU time to the first byte, idle memory, what an installation brings.

Each figure stands beside its limit; the exit code is 1 if one is missed. Linux (/proc). Installs from the registry.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROUNDS = 5
STARTUP_SECONDS = 1.0
IDLE_MIB = 90.0
PACKAGES = 40
INSTALLED_MB = 150.0
#: What a virtual environment brings by itself.
NOT_OURS = {"pip", "setuptools", "wheel", "sseproxy"}
#: An installation brings its modules compiled; told not to write them, Python would compile ours at each start.
NOT_PASSED_ON = {"SSEPROXY_CONFIG", "PYTHONDONTWRITEBYTECODE"}
SOURCES = ("setup.py", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, with the children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"), re.M)
    assert found
    return int(found[1]) / 1024


def first_byte(port: int, request: bytes) -> None:
    """Wait for the first byte of an answer's body."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(request)
        while not got.partition(b"\r\n\r\n")[2]:
            piece = sock.recv(65536)
            assert piece, got
            got += piece


def requests_to(port: int) -> dict[str, bytes]:
    head = f" HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nAuthorization: Bearer sk-demo\r\n"
    body = json.dumps({"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hi"}]})
    content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    return {
        "GET /-/health": f"GET /-/health{head}\r\n".encode(),
        "POST /v1/chat/completions": f"POST /v1/chat/completions{head}{content}".encode(),
    }


def run_once(python: str, path: str) -> tuple[float, float]:
    """CPU seconds from the start of the process to the first byte of `path`, and MiB when it is idle again."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [python, "-m", "sseproxy", "serve", "--listen", "127.0.0.1:0"]
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            assert process.stdout
            line = next(line for line in process.stdout if "listening on" in line)
            port = int(line.rsplit(":", 1)[1])
            first_byte(port, requests_to(port)[path])
            spent = cpu_seconds(process.pid)
            time.sleep(1)
            return spent, memory_mib(process.pid)
        finally:
            process.terminate()
            process.wait(30)


def install(directory: Path) -> tuple[set[str], float]:
    """Names of the packages that an installation without extras brings besides sseproxy, and MB of everything."""
    copy = directory / "source"
    shutil.copytree(ROOT / "sseproxy", copy / "sseproxy", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    subprocess.run([sys.executable, "-m", "venv", str(directory / "venv")], check=True)
    python = str(directory / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", str(copy)]
    subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
    site = next((directory / "venv" / "lib").glob("python*/site-packages"))
    names = {path.name.split("-")[0].lower() for path in site.glob("*.dist-info")} - NOT_OURS
    ours = [path for path in site.iterdir() if not re.match(r"(pip|setuptools|wheel|_distutils_hack)\b", path.name)]
    files = [file for path in ours for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return names, sum(file.stat().st_size for file in files) / 1e6


def show(name: str, value: float, limit: float | None, unit: str) -> bool:
    """One line of the table; whether the limit, if there is one, is kept."""
    kept = limit is None or value <= limit
    beside = "" if limit is None else f"(at most {limit:g}){'' if kept else '  MISSED'}"
    print(f"{name:58}{value:8.2f} {unit:9}{beside}", flush=True)
    return kept


def main() -> None:
    kept = True
    memory = []
    for path in requests_to(0):
        # The first round fills the caches of the disk and writes the compiled modules. Each begins with a new ledger.
        rounds = [run_once(sys.executable, path) for _ in range(ROUNDS + 1)][1:]
        kept &= show(f"CPU to the first byte of {path}", min(each[0] for each in rounds), STARTUP_SECONDS, "s")
        memory.append(max(each[1] for each in rounds))
    kept &= show("idle memory", memory[0], IDLE_MIB, "MiB")
    show("idle memory once tokens were counted (a vocabulary)", memory[1], None, "MiB")
    with tempfile.TemporaryDirectory() as directory:
        names, size = install(Path(directory))
    kept &= show("packages besides sseproxy, without extras", len(names), PACKAGES, "")
    kept &= show("installed, compiled modules included", size, INSTALLED_MB, "MB")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
