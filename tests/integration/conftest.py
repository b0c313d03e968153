"""Fixtures of the tests of the whole, and the table of what each client has read right of the corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from sseproxy import SSEProxyMiddleware

from .books import Books

Enclose = Callable[[Any, Any], SSEProxyMiddleware]

READ_RIGHT = pytest.StashKey[dict[str, tuple[int, int]]]()
"""Client → (cases read right, cases)."""


@pytest.fixture
def books(tmp_path: Path) -> Books:
    """The ledger that ``config(url, tmp_path)`` names."""
    return Books(tmp_path)


@pytest.fixture
def enclose() -> Iterator[Enclose]:
    """The proxy around an application, with this configuration; closed when the test ends."""
    with ExitStack() as stack:
        yield lambda app, config: stack.enter_context(closing(SSEProxyMiddleware(app, config)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash.get(READ_RIGHT, {})
    if table:
        terminalreporter.section("the corpus of tests/wire, as read through the proxy")
        width = max(map(len, table))
        for client, (right, cases) in table.items():
            terminalreporter.line(f"{client:<{width}}  {right:>4} / {cases}")
