"""What is done is forgotten at once: a stream leaves no circles of objects, which would wait for the collector."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import RawClient, Upstream

from .books import KEY, STREAM, config
from .processes import served_here

ANSWERS = 40


@pytest.fixture
def garbage() -> Iterator[list[Any]]:
    """Gathers what only the collector finds, from now on."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def test_a_stream_leaves_nothing_to_the_garbage_collector(
    upstream: Upstream, tmp_path: Path, garbage: list[Any]
) -> None:
    with served_here(config(upstream.url, tmp_path)) as url:
        for _ in range(ANSWERS):
            with RawClient(url) as client:
                client.post("/v1/chat/completions", STREAM, key=KEY).read_body()
        gc.collect()

        kinds = Counter(type(each).__qualname__ for each in garbage if type(each).__module__.startswith("sseproxy."))
    assert not [kind for kind, number in kinds.items() if number > ANSWERS // 2]
