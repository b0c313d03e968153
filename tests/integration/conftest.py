"""Fixtures of the tests of the whole, and the table of what each client has read right of the corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from .books import Books

READ_RIGHT = pytest.StashKey[dict[str, tuple[int, int]]]()
"""Client → (cases read right, cases)."""


@pytest.fixture
def books(tmp_path: Path) -> Books:
    """The ledger that ``config(url, tmp_path)`` names."""
    return Books(tmp_path)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash.get(READ_RIGHT, {})
    if table:
        terminalreporter.section("the corpus of tests/wire, as read through the proxy")
        width = max(map(len, table))
        for client, (right, cases) in table.items():
            terminalreporter.line(f"{client:<{width}}  {right:>4} / {cases}")
