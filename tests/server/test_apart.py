"""What several processes do each by itself is said at their start."""

from __future__ import annotations

from typing import Any

import pytest

from sseproxy.config import Config
from sseproxy.server.apart import warn_of_apart

LIMITED = {"defaults": {"limits": {"requests": "60/minute"}}}
REDIS = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("config", "workers", "named"),
    [
        ({}, 1, []),
        (LIMITED, 1, []),
        ({}, 2, ["streams.store"]),
        (LIMITED, 4, ["streams.store", "limits.store"]),
        ({"users": {"alice": {"keys": ["sk-alice"], "limits": {"streams": 8}}}}, 2, ["streams.store", "limits.store"]),
        ({**LIMITED, "streams": {"store": REDIS}}, 2, ["limits.store"]),
        ({**LIMITED, "limits": {"store": REDIS}}, 2, ["streams.store"]),
    ],
)
def test_a_store_that_several_workers_do_not_share_is_named(
    config: dict[str, Any], workers: int, named: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_apart(Config.load(config), workers)

    assert [record.getMessage().partition(":")[0] for record in caplog.records] == named
