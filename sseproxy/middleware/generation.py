"""One generation in a thread of its own: the application is called and its answer written to a live stream.

Call and iteration happen in the same thread, as a wrapped application's request context and thread-locals require, and
with the caller's context variables.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from sseproxy.core.failure import Failure
from sseproxy.core.formats.failing import encode_failure
from sseproxy.core.normalize import failure_of
from sseproxy.middleware.personal import split_personal
from sseproxy.streams.protocol import Busy, Head, Stopped, Writer
from sseproxy.wsgi.call import Answer, Headers, call_app, close_read
from sseproxy.wsgi.client import GONE_KEY, SOCKET_KEYS, ClientGone, Ended
from sseproxy.wsgi.closing import call_all
from sseproxy.wsgi.errors import Crashed, error_body, refuse
from sseproxy.wsgi.exchange import Exchange
from sseproxy.wsgi.stream import EventStream

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.streams")


class Generation:
    """Calls ``app`` for a request and writes what it answers.

    :param environ: of the request that started the generation; it is copied.
    """

    def __init__(self, app: WSGIApplication, environ: WSGIEnvironment, exchange: Exchange, writer: Writer) -> None:
        self._app = app
        self._exchange = exchange
        self._writer = writer
        self._is_stream = exchange.request is not None and exchange.request.stream
        self._settled = threading.Event()
        self._accepted = False
        self._personal: Headers = []
        exchange.when_reserved.append(self._accept)
        self._environ = {key: value for key, value in environ.items() if key not in SOCKET_KEYS}
        self._environ[GONE_KEY] = writer.unwanted
        if self._is_stream:
            # The richest form is stored; for a reader that understands less of it, it is reduced.
            self._environ["HTTP_ACCEPT"] = "text/event-stream"

    def start(self) -> None:
        """Start the thread.

        :raises Busy: the process can start no more threads.
        """
        run = partial(copy_context().run, self._run)
        try:
            threading.Thread(target=run, name=f"stream-{self._writer.id[:8]}", daemon=True).start()
        except RuntimeError as error:
            self._exchange.in_background = False
            self._writer.end()
            raise Busy("There is no thread left for another answer that can be re-joined. Try again later.") from error

    def is_accepted(self) -> bool:
        """Wait until the request is admitted or refused; whether it was admitted."""
        self._settled.wait()
        return self._accepted

    def told_to_asker(self, answer: Answer) -> Answer:
        """The answer to the request that started this, with the header fields that are for its client alone, if they
        are known; for an answer begun by a keep-alive, with the cookies.

        They are kept here and not in the stream's store, from which others read.
        """
        answer.headers = [*answer.headers, *(self._personal or self._exchange.cookies)]
        return answer

    def _accept(self) -> None:
        if not self._settled.is_set():
            self._accepted = True
            self._settled.set()

    def _run(self) -> None:
        try:
            self._relay(call_app(self._app, self._environ))
        except Exception:
            log.exception("%s failed", self._exchange.request_id)
            self._refuse(refuse(Crashed(), self._environ))
        finally:
            self._settled.set()
            self._exchange.in_background = False
            call_all(chain(self._exchange.when_generated, [partial(self._writer.end, broken=True)]))

    def _relay(self, answer: Answer) -> None:
        if answer.code == ClientGone.STATUS and self._writer.unwanted():
            answer.close()
            answer = refuse(Ended(), self._environ)
        if answer.code >= 400:
            return self._refuse(answer)
        format = self._exchange.format
        self._personal, headers = split_personal(answer.headers)
        self._writer.begin(Head(answer.status, headers, optional_names=format is not None and format.events))
        self._accept()
        last: list[bytes] = []
        broken = False
        try:
            if isinstance(answer.body, EventStream):
                self._writer.on_stop(answer.body.interrupt)
            self._copy(answer.body)
        except Stopped:
            last, broken = self._failed(Ended())
        except Failure as failure:  # raised by a format that cannot express an error
            last, broken = self._failed(failure)
        except Exception:
            log.exception("the answer to %s broke off", self._exchange.request_id)
            last, broken = self._failed(Crashed())
        finally:
            close_read(answer.body)
        self._writer.end(last, broken=broken)

    def _copy(self, body: Iterable[bytes]) -> None:
        for entries in _batches(body):
            if entries:
                with suppress(Stopped):  # checked below
                    self._writer.write(entries)
            has_more = isinstance(body, EventStream) and body.has_more  # perhaps the end marker
            if self._writer.unwanted() and not has_more:
                raise Stopped

    def _refuse(self, answer: Answer) -> None:
        """Store a refusal in both forms: for readers that can still be sent its status, and as an event for the
        others."""
        try:
            body = b"".join(answer.body)
        finally:
            answer.close()
        failure = failure_of(answer.code, body, answer.header("Content-Type"))
        entries, broken = self._failed(failure) if self._is_stream else ([], False)
        refusal = error_body(failure, self._environ)
        answer.drop_headers("Content-Type", "Content-Length", "Cache-Control", "X-Accel-Buffering")
        self._personal, headers = split_personal(answer.headers)
        self._writer.begin(Head(answer.status, headers, refusal))
        self._writer.end(entries, broken=broken)

    def _failed(self, failure: Failure) -> tuple[list[bytes], bool]:
        """The failure as the stream's last entries, and whether connections must be aborted as it cannot be
        expressed."""
        if not self._is_stream or self._exchange.api is None:
            return [], True
        try:
            return encode_failure(failure, self._exchange.api, self._exchange.format, named=True), False
        except Failure:
            return [], True


def _batches(body: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The events of each read from the upstream; an empty list at each tick of silence."""
    if not isinstance(body, EventStream):
        yield from ([piece] if piece else [] for piece in body)
        return
    while (entries := body.take()) is not None:
        yield entries
