"""What a reload keeps as it was."""

from __future__ import annotations

from sseproxy.config import Config, keep_fixed
from sseproxy.config.fixed import FIXED


def test_what_cannot_change_is_kept_and_named_the_rest_is_new() -> None:
    running = Config.load({"server": {"threads": 5}, "streams": {"keepalive": "5s"}})
    new = Config.load(
        {
            "server": {"threads": 6, "trusted_proxy": "10.0.0.1"},
            "streams": {"keepalive": "6s", "keep": "1m"},
            "accounting": {"ledger": "sqlite:///other.db", "client_gone": "drain"},
        }
    )
    kept, names = keep_fixed(running, new)
    assert names == ["server.threads", "accounting.ledger", "streams.keep"]
    assert (kept.server.threads, kept.server.trusted_proxy) == (5, "10.0.0.1/32")
    assert (kept.streams.keepalive, kept.streams.keep) == (6.0, 300.0)
    assert kept.accounting.ledger == running.accounting.ledger
    assert kept.accounting.client_gone == "drain"
    assert kept.source == new.source


def test_the_same_configuration_differs_in_nothing() -> None:
    same = {"server": {"threads": 5}}
    assert keep_fixed(Config.load(same), Config.load(same))[1] == []


def test_every_key_that_is_kept_exists() -> None:
    for section, keys in FIXED.items():
        fields = Config.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
        assert set(keys) <= set(fields)
