"""Stores prompts and answers beside their charges (``accounting.store_content``)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sseproxy.core.chat import Api
from sseproxy.core.failure import Failure
from sseproxy.core.formats.reading import whole
from sseproxy.core.normalize import read_completion
from sseproxy.core.sse import FLUSH, Event
from sseproxy.ledger.protocol import Content
from sseproxy.wsgi.call import call_app
from sseproxy.wsgi.closing import call_once
from sseproxy.wsgi.exchange import Exchange
from sseproxy.wsgi.stream import EventStream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.accounting")


class ContentMiddleware:
    """Stands around accounting, which sets the charge's ID. Embeddings are not stored.

    :param keep: called with the charge's ID and the content, once for each answer, however it ended.
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
            streamed = _StreamedTexts()
            answer.body.pipe(streamed.read, streamed.add)
            answer.body.on_closed(partial(self._write, exchange, asked, streamed.joined))
        elif answer.code < 400:
            body = b"".join(answer.body)
            answer.close()
            answer.body = _WholeBody(body, partial(self._write, exchange, asked, partial(_texts_in, request.api, body)))
        return answer(environ, start_response)

    def _write(self, exchange: Exchange, asked: str, read: Callable[[], tuple[str, str]]) -> None:
        try:
            content, hidden = map(_storable, read())
            self._keep(exchange.charge_id, Content(asked, content, hidden))
        except Failure as failure:
            log.error("the content of charge %s is not kept: %s", exchange.charge_id, failure.message)
        except Exception:  # the answer is paid for, and has left
            log.exception("the content of charge %s is not kept", exchange.charge_id)


class _WholeBody(list[bytes]):
    """A whole answer, still a list for other middlewares; ``closed`` is called when the client has it."""

    def __init__(self, body: bytes, closed: Callable[[], object]) -> None:
        super().__init__([body])
        self._closed = [closed]

    def close(self) -> None:
        call_once(self._closed)


def _texts_in(api: Api, body: bytes) -> tuple[str, str]:
    read = read_completion(api, body)
    return read.content, read.hidden


class _StreamedTexts:
    """The texts of a stream, as far as it came."""

    def __init__(self) -> None:
        self.content: list[str] = []
        self.hidden: list[str] = []

    def add(self, content: str, hidden: str, times: Sequence[float] = ()) -> None:
        self.content.append(content)
        self.hidden.append(hidden)

    def read(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if event is not FLUSH:
                self.add(event.content, event.hidden)
            yield event

    def joined(self) -> tuple[str, str]:
        return "".join(self.content), "".join(self.hidden)


def _storable(text: str) -> str:
    """PostgreSQL accepts no NUL in a text, and no database an unpaired surrogate."""
    return whole(text).replace("\0", "\ufffd")
