"""The page that has every client in it, in Chromium, and the same clients in Node.js."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Browser, Node, Page, Upstream, serve_files
from tests.harness.parts import CLIENTS
from tests.integration.books import Books

from .site import Site, routed, running


@pytest.fixture(scope="session")
def origin() -> Iterator[str]:
    """Where the page with the clients is: an origin that is not the proxy's."""
    with serve_files({"/": CLIENTS, "/npm/": CLIENTS / "node_modules"}) as url:
        yield url


@pytest.fixture(scope="session")
def chromium(browser: Browser, origin: str) -> Iterator[Page]:
    """A page with ``read(options)``."""
    with browser.open(f"{origin}/readers.html") as page:
        yield page


@pytest.fixture(scope="session")
def node() -> Iterator[Page]:
    """Node.js with ``read(options)``."""
    running = Node()
    try:
        yield running.open()
    finally:
        running.close()


@pytest.fixture
def page(place: str, request: pytest.FixtureRequest) -> Page:
    """Where clients run: ``chromium`` or ``node``."""
    found: Page = request.getfixturevalue(place)
    return found


@pytest.fixture
def books(tmp_path: Path) -> Books:
    """The ledger of ``site``."""
    return Books(tmp_path)


@pytest.fixture
def site(upstream: Upstream, tmp_path: Path, origin: str) -> Iterator[Site]:
    """The proxy in front of ``upstream``, with its routes."""
    with running(routed(upstream.url, tmp_path, origin)) as site:
        yield site
