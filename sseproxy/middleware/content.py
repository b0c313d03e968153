"""Keeps what was asked and answered, beside the charge, for an operator who wants that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from sseproxy.core.failure import Failure
from sseproxy.core.normalize import read_completion
from sseproxy.core.sse import FLUSH, Event
from sseproxy.ledger.protocol import Content
from sseproxy.wsgi.call import call_app
from sseproxy.wsgi.exchange import Exchange
from sseproxy.wsgi.stream import EventStream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.accounting")


class ContentMiddleware:
    """Stands around accounting, which names the charge. Embeddings are not kept: nobody reads them.

    :param keep: is given the charge's ID and the content, once for each answer, however it ended.
    """

    def __init__(self, app: WSGIApplication, keep: Callable[[str, Content], object]) -> None:
        self.app = app
        self._keep = keep

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange = Exchange.of(environ)
        request = exchange.request
        if request is None or request.api == "embeddings":
            return self.app(environ, start_response)
        asked = request.encode().decode()
        answer = call_app(self.app, environ)
        if isinstance(answer.body, EventStream):
            said = _Said()
            answer.body.pipe(said.listen, said.hear)
            answer.body.on_closed(lambda: self._write(exchange, asked, said.content, said.hidden))
        elif answer.code < 400:
            body = b"".join(answer.body)
            answer.close()
            answer.body = [body]
            read = read_completion(request.api, body)
            self._write(exchange, asked, [read.content], [read.hidden])
        return answer(environ, start_response)

    def _write(self, exchange: Exchange, asked: str, content: list[str], hidden: list[str]) -> None:
        try:
            self._keep(exchange.charge_id, Content(asked, _storable(content), _storable(hidden)))
        except Failure as failure:
            log.error("the content of charge %s is not kept: %s", exchange.charge_id, failure.message)


class _Said:
    """The text of a stream as far as it came."""

    def __init__(self) -> None:
        self.content: list[str] = []
        self.hidden: list[str] = []

    def hear(self, content: str, hidden: str, times: Sequence[float] = ()) -> None:
        self.content.append(content)
        self.hidden.append(hidden)

    def listen(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if event is not FLUSH:
                self.hear(event.content, event.hidden)
            yield event


def _storable(pieces: list[str]) -> str:
    """PostgreSQL takes no NUL in a text."""
    return "".join(pieces).replace("\0", "\ufffd")
