"""What it was measured on: without it no figure means anything."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.load.processes import CPUS


def describe() -> dict[str, str]:
    """CPU, system and versions, by name."""
    found = {
        "CPU": _cpu_model(),
        "CPUs": f"{len(CPUS)} to use" + ("" if len(CPUS) > 1 else ": proxy and load share it"),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    for package in ("sseproxy", "waitress", "gunicorn", "gevent"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | _nginx_version()


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    name = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", info, re.M)
    return name[1] if name else platform.machine()


def _nginx_version() -> dict[str, str]:
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        return {}
    said = subprocess.run([program, "-v"], capture_output=True, text=True).stderr
    return {"nginx": said.strip().rpartition("/")[2]}
