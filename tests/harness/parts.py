"""Parts that a test needs and a machine may lack: skipped by a person who runs `make test`, failed in CI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parent.parent / "clients"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
"""Names of the program, the one of Debian first."""
IN_CI = os.environ.get("CI", "") not in ("", "0", "false")


def missing(part: str) -> None:
    """Skip the running test because `part` is not on this machine; in CI, fail it."""
    message = f"missing part: {part}"
    if IN_CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def optional(part: str) -> None:
    """Skip the running test because `part`, which takes too long to install for every run of CI, is not here."""
    pytest.skip(f"optional part: {part}")


def require_tool(name: str) -> str:
    """The path of a program, or :func:`missing`."""
    path = shutil.which(name)
    if path is None:
        missing(name)
    return str(path)


def optional_tool(name: str) -> str:
    """The path of a program that .ci/run does not install either; the test is skipped without it, in CI too."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on this machine; it is optional everywhere")
    return path


def require_node_clients(package: str = "") -> str:
    """The path of Node.js, where the packages of tests/clients (and `package`) are installed, or :func:`missing`."""
    node = require_tool("node")
    if not (CLIENTS / "node_modules" / package).is_dir():
        missing(f"the Node clients {package} (npm ci in tests/clients)")
    return node


def require_browser() -> tuple[str, str]:
    """The paths of Node.js and Chromium, where playwright-core is installed, or :func:`missing`."""
    node = require_node_clients("playwright-core")
    programs = filter(None, map(shutil.which, CHROMIUM))
    chromium = next(programs, None)
    if chromium is None:
        missing("Chromium")
    return node, str(chromium)
