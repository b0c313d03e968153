"""Fixtures of the whole suite, and the rule that CI has every part: there a skip for a missing part is a failure."""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.harness import Browser, RedisServer, Upstream, redis_server
from tests.harness.parts import IN_CI

# `make fuzz` asks for the second one. What hypothesis itself sets in CI is kept.
settings.register_profile("sseproxy", settings.default, deadline=None)
settings.register_profile("fuzz", settings.default, deadline=None, max_examples=10_000)
settings.load_profile("sseproxy")

_MISSING = re.compile(r"missing part|could not import|No module named")


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("waitress", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A controllable upstream that answers as OpenAI would until its ``script`` is changed."""
    with Upstream() as running:
        yield running


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A real Redis with nothing in it."""
    with redis_server() as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium, one for all tests; each page has storage and connections of its own."""
    running = Browser()
    try:
        yield running
    finally:
        running.close()


def pytest_collection_finish() -> None:
    # What there is now stays until the end: no collection of garbage has to look through half a million objects of it.
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    return _refuse_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    return _refuse_skip(report)


def _refuse_skip(report):  # type: ignore[no-untyped-def]
    if IN_CI and report.skipped and _MISSING.search(str(report.longrepr)):
        report.outcome = "failed"
        report.longrepr = f"in CI nothing may be missing: {report.longrepr}"
    return report
