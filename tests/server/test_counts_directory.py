"""server/counts_directory: of those that stand in one place each service has its own, and none stays behind."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from sseproxy.server import counts_directory

HOLDER = """
import os, sys
from sseproxy.server import counts_directory
print(counts_directory.make(), flush=True)
if os.fork():
    os._exit(0)  # as a master that is killed; its worker stays
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_one_is_removed_only_when_the_last_process_that_counts_there_has_ended(tmp_path: Path) -> None:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], env={**os.environ, "TMPDIR": str(tmp_path)}, **pipes
    ) as master:
        assert master.stdin is not None and master.stdout is not None
        theirs = Path(master.stdout.readline().strip())
        master.wait()

        own = Path(counts_directory.make())
        assert {*tmp_path.iterdir()} == {theirs, own}

    with (theirs / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the worker, whose input has ended, has ended too
    another = Path(counts_directory.make())
    assert {*tmp_path.iterdir()} == {own, another}


def test_what_has_no_lock_or_only_looks_like_one_stays(tmp_path: Path) -> None:
    (tmp_path / "sseproxy-metrics-of-an-older-version").mkdir()
    (tmp_path / "sseproxy-metrics-file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/lock").touch()
    (tmp_path / "sseproxy-metrics-link").symlink_to(tmp_path / "elsewhere")
    before = {*tmp_path.iterdir()}

    own = Path(counts_directory.make())

    assert {*tmp_path.iterdir()} == {*before, own}
    assert (tmp_path / "elsewhere/lock").exists()
