"""What outlives a reload of the configuration: books, counts, live streams, connections, and what runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from sseproxy.config import Config, Upstream
from sseproxy.ledger.contents import Contents
from sseproxy.ledger.ledger import SQLLedger
from sseproxy.ledger.opening import open_journaled
from sseproxy.middleware.bookkeeper import Bookkeeper
from sseproxy.middleware.limiter import Limiter
from sseproxy.streams.memory import MemoryStreams
from sseproxy.streams.protocol import Streams
from sseproxy.telemetry import Telemetry
from sseproxy.tokenizer import Tokenizer
from sseproxy.upstream.app import UpstreamApp
from sseproxy.upstreams import make_upstream
from sseproxy.wsgi.draining import Draining

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class Lasting:
    """The parts of an application that its stacks share, one after the other.

    :raises RuntimeError: a store's driver is not installed; says what to install.
    :raises LedgerUnavailable: the books cannot be opened.
    """

    def __init__(self, config: Config) -> None:
        self.tokenizer = Tokenizer()
        self.draining = Draining()
        self._upstreams: dict[str, tuple[Upstream, WSGIApplication]] = {}
        with ExitStack() as opened:  # closed in reverse: each part before those it needs for its own end
            self._open(config, opened)
            self._opened = opened.pop_all()

    def _open(self, config: Config, opened: ExitStack) -> None:
        books = config.accounting
        serve = books.on_ledger_down == "serve"
        self.telemetry = Telemetry(config)
        opened.callback(self.telemetry.close)
        self.ledger = open_journaled(books.ledger.get_secret_value(), books.journal, serve=serve)
        opened.callback(self.ledger.close)
        assert isinstance(self.ledger.ledger, SQLLedger)
        self.contents = Contents(self.ledger.ledger.database)
        self.limiter = Limiter(config.limits.store.get_secret_value())
        opened.callback(self.limiter.close)
        opened.callback(self._close_upstreams)
        self.books = self.telemetry.timed(self.ledger)
        self.bookkeeper = Bookkeeper(self.books)
        opened.callback(self.bookkeeper.close)
        self.streams = _streams(config, self.draining.is_over)
        opened.callback(self.streams.close)
        self.telemetry.watch(self.bookkeeper, self.streams)
        if not (database := self.ledger.ledger.database).in_memory:
            database.close()  # uWSGI forks without Python's hooks: its workers would share open connections

    def upstreams(self, config: Config) -> dict[str, WSGIApplication]:
        """The applications that answer for the configured upstreams.

        An upstream whose section is unchanged is kept, with its connections. Replaced ones end with their last answer.
        """
        made = {}
        for name, section in config.upstreams.items():
            before, app = self._upstreams.get(name, (None, None))
            made[name] = (section, app if app is not None and before == section else make_upstream(section))
        self._upstreams = made
        return {name: app for name, (_, app) in made.items()}

    def close(self) -> None:
        """End running streams and the bookkeeper; close upstreams, stores and ledger, even where one of them raises."""
        self._opened.close()

    def _close_upstreams(self) -> None:
        for _, upstream in self._upstreams.values():
            if isinstance(upstream, UpstreamApp):
                upstream.close()


def _streams(config: Config, is_over: Callable[[], bool]) -> Streams:
    section = config.streams
    store = section.store.get_secret_value()
    if store == "memory://":
        return MemoryStreams(keep=section.keep, keep_alone=section.keep_alone, buffer=section.buffer, is_over=is_over)
    from sseproxy.streams.redis import RedisStreams

    return RedisStreams(store, keep=section.keep, keep_alone=section.keep_alone, buffer=section.buffer, is_over=is_over)
