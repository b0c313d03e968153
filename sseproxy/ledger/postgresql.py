"""How the books live in PostgreSQL: an engine that gives up a server that has fallen silent. Imports psycopg."""

from __future__ import annotations

import logging
import math
from collections.abc import Generator
from contextlib import suppress
from time import monotonic
from typing import Any, Final, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util.queue import Empty

from sseproxy.core.outage import Outage

T = TypeVar("T")
SILENCE: Final = 5.0
"""Seconds of silence after which a connection is given up where a client waits."""
REPORT_SILENCE: Final = 60.0
"""The same for what SQLAlchemy runs: reports, and what is rarely done."""
CANCELLATION: Final = 1.0
"""Seconds that a silent server has to take note that nobody waits for its answer any more."""
LOOK: Final = 0.1
"""Seconds after which one who waits for a connection looks whether there is still one to wait for."""
PREPARE: Final = "prepare_threshold"
"""An option of the address: after so many uses of a statement the server is to remember its plan; 0: never."""
KEPT: Final = 4
"""Connections that a process keeps while it is idle: the server has only so many for all of them."""
CALM: Final = 30.0
"""Seconds for which those beyond are kept unused: to make a connection costs more than a booking."""
MOST: Final = 16


class PunctualConnection(psycopg.Connection[Any]):
    """Is closed when its server does not answer in time.

    A host that vanished or froze resets nothing, and its connections would be waited for, for ever. What the kernel can
    be told (``tcp_user_timeout``, keep-alives) does not see a silence behind a proxy or a load balancer.

    :ivar patience: seconds.
    """

    patience = SILENCE

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """Run the steps of a query."""
        return super().wait(self._in_time(gen), *args, **options)

    def _in_time(self, steps: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        """The same steps. psycopg comes by every 0.1 s with nothing, while nothing comes from the server."""
        heard = monotonic()
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted
                if ready:
                    heard = monotonic()
                elif monotonic() - heard > self.patience:
                    self._cancel_what_runs()
                    self.close()
                    raise psycopg.OperationalError(f"the server has been silent for {self.patience:g} s")
                wanted = steps.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result

    def _cancel_what_runs(self) -> None:
        """A server that waits for a lock does not see that its client left, and would keep the connection till then."""
        # Before libpq 17 a cancellation would wait, without a bound, for a host that vanished.
        if self.pgconn.transaction_status == TransactionStatus.ACTIVE and psycopg.capabilities.has_cancel_safe():
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=CANCELLATION)


class Caller:
    """Connects to the server. Where that is silent one thread looks whether it is back, and all others are told so."""

    def __init__(self) -> None:
        self._outage = Outage(pause=0, patience=2 * SILENCE)

    def connect(self, _dialect: object, _record: object, arguments: Any, named: Any) -> PunctualConnection:
        """Instead of the driver; for SQLAlchemy.

        :raises psycopg.Error: it cannot be reached, or is silent.
        """
        if self._outage.bars():
            raise psycopg.errors.ConnectionTimeout("the server is silent, and somebody looks whether it is back")
        try:
            connection = PunctualConnection.connect(*arguments, **named)
        except psycopg.errors.ConnectionTimeout:
            self._outage.begin()
            raise
        except psycopg.Error:
            self._outage.end()
            raise
        self._outage.end()
        return connection


class SharingPool(QueuePool):
    """Waits for one of its own connections where the server has none left for this process, and hoards none itself.

    :ivar calm: seconds.
    """

    calm = CALM
    _connecting = 0
    _few_idle_at = -math.inf

    def _do_get(self) -> ConnectionPoolEntry:
        try:
            return super()._do_get()
        except psycopg.OperationalError as error:
            until = -math.inf if isinstance(error, psycopg.errors.ConnectionTimeout) else monotonic() + self._timeout
            while True:
                wait = self._others_run() and monotonic() < until
                try:
                    return self._pool.get(wait, LOOK)
                except Empty:
                    if not wait:
                        raise error from None

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        """The bookkeeper's rounds come by here when no request does."""
        now = monotonic()
        if self._pool.qsize() < KEPT:
            self._few_idle_at = now
        if now - self._few_idle_at <= self.calm:
            super()._do_return_conn(record)
            return
        try:
            record.close()
        finally:
            self._dec_overflow()

    def _others_run(self) -> bool:
        """Whether others have a connection to give back: who is still connecting may get none either."""
        return self.checkedout() > self._connecting

    def _create_connection(self) -> ConnectionPoolEntry:
        with self._overflow_lock:
            self._connecting += 1
        try:
            return super()._create_connection()
        finally:
            with self._overflow_lock:
                self._connecting -= 1


# As quiet as SQLAlchemy keeps its own pools, which tell at "info" of each that is closed.
logging.getLogger(f"{__name__}.{SharingPool.__name__}").setLevel(logging.WARNING)


def create_postgresql(url: URL) -> Engine:
    """An engine; connects to nothing yet."""
    arguments: dict[str, Any] = {} if "connect_timeout" in url.query else {"connect_timeout": int(SILENCE)}
    # Behind PgBouncer each transaction may go to another server, which does not know what was prepared on the last.
    arguments[PREPARE] = int(str(url.query.get(PREPARE, 0))) or None
    # The first connection that is found silent or broken replaces all others, too.
    engine = create_engine(
        url.difference_update_query([PREPARE]),
        poolclass=SharingPool,
        pool_pre_ping=True,
        pool_size=MOST,
        max_overflow=0,
        pool_timeout=SILENCE,
        pool_reset_on_return=None,
        # A database may have another default, with which those who book for one user at a time fail.
        isolation_level="READ COMMITTED",
        connect_args=arguments,
    )
    event.listen(engine, "do_connect", Caller().connect)
    event.listen(engine, "begin", _expect_a_report)
    event.listen(engine, "reset", _make_ready)
    return engine


def wait_for_ever(connection: Connection) -> None:
    """Let the queries of a transaction that has begun take what time they need."""
    _punctual(connection).patience = math.inf


def _expect_a_report(connection: Connection) -> None:
    _punctual(connection).patience = REPORT_SILENCE


def _make_ready(connection: PunctualConnection, _record: object, _state: object) -> None:
    """For the next one, who waits for a client; a connection that was closed is replaced then."""
    if not connection.closed:
        connection.rollback()
    connection.patience = PunctualConnection.patience


def _punctual(connection: Connection) -> PunctualConnection:
    driven = connection.connection.driver_connection
    assert isinstance(driven, PunctualConnection)
    return driven
