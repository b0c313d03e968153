"""Parts that a test needs and a machine may lack: skipped by a person who runs `make test`, failed in CI."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parent.parent / "clients"
IN_CI = os.environ.get("CI", "") not in ("", "0", "false")


def missing(part: str) -> None:
    """Skip the running test because `part` is not on this machine; in CI, fail it."""
    message = f"missing part: {part}"
    if IN_CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def require_tool(name: str) -> str:
    """The path of a program, or :func:`missing`."""
    path = shutil.which(name)
    if path is None:
        missing(name)
    return str(path)


def require_node_clients() -> str:
    """The path of Node.js, where the packages of tests/clients are installed, or :func:`missing`."""
    node = require_tool("node")
    if not (CLIENTS / "node_modules").is_dir():
        missing("the Node clients (npm ci in tests/clients)")
    return node
