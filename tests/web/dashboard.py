"""A proxy with books, an admin and somebody else, for the tests of the dashboard."""

from __future__ import annotations

import html
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from werkzeug.test import Client, TestResponse

from sseproxy.app import Proxy, SSEProxyMiddleware
from sseproxy.core.usage import Usage
from sseproxy.ledger.ledger import SQLLedger
from sseproxy.ledger.protocol import Charge, Settlement

ADMIN, OTHER = "sk-root-0123456789", "sk-alice-0123456789"
PAGE = "/-/dashboard"


def settings(directory: Path, **sections: Any) -> dict[str, Any]:
    """A configuration with ``root``, an admin, and ``alice``, who is none."""
    return {
        "upstreams": {"main": {"url": "http://127.0.0.1:9/v1", "api_key": "sk-upstream"}},
        "users": {"root": {"keys": [ADMIN], "admin": True}, "alice": {"keys": [OTHER]}},
        "accounting": {"ledger": f"sqlite:///{directory}/usage.db", "journal": f"{directory}/usage.journal"},
        **sections,
    }


def books_of(app: Proxy | SSEProxyMiddleware) -> SQLLedger:
    """The ledger an application writes."""
    ledger = app.ledger.ledger  # type: ignore[attr-defined]
    assert isinstance(ledger, SQLLedger)
    return ledger


def book(ledger: SQLLedger, id: str, *, ago: timedelta = timedelta(0), ends: bool = True, **fields: Any) -> None:
    """One charge of 0.25 USD, which began so long ago."""
    known = {"user": "alice", "key": None, "model": "m", "route": "/v1", "upstream": "main", "upstream_model": "m"}
    at = datetime.now(timezone.utc) - ago
    outcome = fields.pop("outcome", "completed")
    ms = fields.pop("first_token_ms", 120)
    ledger.reserve(Charge(id=id, reserved=1000, started_at=at, **{**known, **fields}))
    if ends:
        usage = Usage(1000, 400, 0, 50, 20)
        ledger.settle(id, Settlement(outcome, "reported", usage, 0, 250_000_000, 200, ms, 900))


def login(client: Client, key: str = ADMIN, **more: Any) -> TestResponse:
    """Send the form."""
    return client.post(f"{PAGE}/login", data={"key": key}, **more)


def rows_of(page: str, table: str) -> list[list[str]]:
    """What the cells of a table's body and foot show, row by row."""
    section = re.search(rf'<section id="{table}".*?</section>', page, re.S)
    assert section, table
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", section[0], re.S)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S) for row in rows[1:]]
    return [[html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in row] for row in cells]
