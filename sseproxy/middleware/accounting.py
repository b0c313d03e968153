"""Who owes what for a request: reserve, meter, settle.

Reserved before anything is sent; settled before the last event leaves, or when the body is closed, whichever is first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING

from sseproxy.core.failure import Failure
from sseproxy.core.normalize import annotate, continue_response
from sseproxy.core.normalize.compression import unzip
from sseproxy.core.sse import decode
from sseproxy.ledger.protocol import Ledger
from sseproxy.middleware.bill import Bill
from sseproxy.middleware.bookkeeper import Bookkeeper
from sseproxy.middleware.meter import Counter
from sseproxy.middleware.shown_usage import ShownUsage
from sseproxy.wsgi.call import Answer, call_app, close_body
from sseproxy.wsgi.client import asking, connection_closed, lingering, watch_client
from sseproxy.wsgi.closing import call_once
from sseproxy.wsgi.completion import CompletionBody
from sseproxy.wsgi.errors import refuse
from sseproxy.wsgi.exchange import KEY, Exchange, Mapped
from sseproxy.wsgi.long_body import LongBody
from sseproxy.wsgi.stream import EventStream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class AccountingMiddleware:
    """Charges each request that is an LLM call (or goes to an upstream by ``passthrough``) to its user.

    Usage is always asked for, and shown only to the client that asked for it too.

    :param ledger: where charges are booked.
    :param counter: counts tokens where the upstream reports none.
    :param linger: seconds for which the upstream is still read, for its exact usage, after the client left; 0: it is
        closed at once, except for a second's grace where only the usage was still missing.
    :param bookkeeper: notes running charges; by default a new one.
    """

    def __init__(
        self,
        app: WSGIApplication,
        ledger: Ledger,
        counter: Counter,
        *,
        linger: float = 0.0,
        bookkeeper: Bookkeeper | None = None,
    ) -> None:
        self.app = app
        self._ledger = ledger
        self._counter = counter
        self._linger = linger
        self._bookkeeper = bookkeeper or Bookkeeper(ledger)

    def close(self) -> None:
        """Stop watching running charges; the ledger may be closed after this."""
        self._bookkeeper.close()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange: Exchange = environ.get(KEY) or Exchange.of(environ)
        try:
            request = exchange.request or exchange.read_request(environ)
            if request is None and exchange.target is None:
                return self.app(environ, start_response)
            if exchange.billed is not None:  # the answer is parsed here, so it must not come compressed
                environ.pop("HTTP_ACCEPT_ENCODING", None)
            if request is not None and request.stream:
                exchange.put_request(environ, request.asking_usage(True))
            exchange.linger.seconds = self._linger
            self._bookkeeper.start()
            bill = Bill(self._ledger, self._counter, exchange, self._bookkeeper.forget)
        except Failure as failure:
            return refuse(failure, environ)(environ, start_response)
        self._bookkeeper.add(bill)
        if exchange.when_reserved:
            call_once(exchange.when_reserved)
        return self._answer(environ, exchange, bill)(environ, start_response)

    def _answer(self, environ: WSGIEnvironment, exchange: Exchange, bill: Bill) -> Answer:
        try:
            answer = call_app(self.app, environ)
        except BaseException:
            bill.release("upstream_failed")
            raise
        bill.answered(answer.code)
        if answer.code >= 400:
            bill.failed(answer.code)
        elif exchange.mapped is not None:
            return self._mapped(answer, environ, exchange, exchange.mapped, bill)
        elif exchange.request is None or isinstance(answer.body, LongBody):
            passed = _PassedBody(answer.body, exchange, bill, lingering(watch_client(environ), exchange.linger))
            try:
                passed.begin()
            except Failure as failure:
                return refuse(failure, environ)
            answer.body = passed
        elif exchange.request.stream:
            if not isinstance(answer.body, EventStream):
                answer.drop_headers("Content-Encoding")
            answer.body = self._metered(answer.body, exchange, bill)
        else:
            return self._settled_completion(answer, environ, exchange, bill)
        return answer

    def _metered(self, body: Iterable[bytes], exchange: Exchange, bill: Bill) -> EventStream:
        request = exchange.request
        assert request is not None
        stream = EventStream.of(body, lambda pieces: decode(unzip(pieces)))
        if stream is not body:
            stream.pipe(lambda events: annotate(events, api=request.api))
        # Usage is shown only after the chunk with the finish reason, which never takes the path of plain events.
        shown = ShownUsage(exchange) if request.api in ("chat", "completions") else None
        stream.pipe(partial(bill.meter, shown=shown), bill.seen)
        if request.api == "responses":
            stream.pipe(continue_response)
        return _settling(stream, bill)

    def _mapped(
        self, answer: Answer, environ: WSGIEnvironment, exchange: Exchange, mapped: Mapped, bill: Bill
    ) -> Answer:
        """The answer unchanged, byte for byte, and metered as it passes."""
        if answer.code >= 300:  # a redirect to a login, "not modified": not generated by a model
            bill.release("completed")
            return answer

        def named(model: str) -> None:
            target = mapped.resolve(model)
            if target is not None:
                bill.answered_by(target)

        media_type = answer.header("Content-Type").partition(";")[0].strip().lower()
        whole = media_type == "application/json" or media_type.endswith("+json")
        bare = media_type != "text/event-stream" and "json" not in media_type
        stream = EventStream(
            mapped.mapping.read(answer.body, named, whole=whole, bare=bare),
            gone=lingering(watch_client(environ), exchange.linger),
        )
        stream.encoder, stream.ping = attrgetter("data"), b""
        stream.on_close(answer.close)
        try:
            stream.peek(lambda event: bool(event.data))
        except BaseException:
            bill.release("upstream_failed")
            stream.close()
            raise
        stream.pipe(bill.meter).pipe(bill.complete)
        answer = Answer(answer.status, answer.headers, _settling(stream, bill))
        if exchange.method.upper() == "HEAD":  # no server will read the body, but it is generated and must be charged
            answer.body = []
            for _ in stream:
                pass
        return answer

    def _settled_completion(self, answer: Answer, environ: WSGIEnvironment, exchange: Exchange, bill: Bill) -> Answer:
        assert exchange.request is not None
        gone = watch_client(environ)
        body = answer.body
        if not isinstance(body, CompletionBody):
            answer.drop_headers("Content-Encoding")
            try:
                body = CompletionBody.of(body, exchange.request.api, lingering(gone, exchange.linger))
            except Failure as failure:
                exchange.note_failure(failure)
                bill.failed(failure.status)
                return refuse(failure, environ)
            except BaseException:
                bill.release("upstream_failed")
                raise
        content = bill.read_completion(body.completion, gone())
        answer.body = [content]
        answer.set_header("Content-Length", str(len(content)))
        return answer


def _settling(stream: EventStream, bill: Bill) -> EventStream:
    """Make sure that the charge is settled however the stream ends."""
    stream.limit(bill.room)
    stream.on_interrupt(bill.is_abandoned)
    stream.on_close(bill.read_on)
    stream.on_closed(bill.hung_up)
    return stream


class _PassedBody:
    """A body that is passed through unparsed (a long one is searched for its usage); its charge is settled at its end.

    :param gone: whether the client has left; asked while the upstream is silent.
    """

    def __init__(self, body: Iterable[bytes], exchange: Exchange, bill: Bill, gone: Callable[[], bool]) -> None:
        self._body = body
        self._rest = iter(body)
        self._exchange = exchange
        self._bill = bill
        self._gone = gone

    def begin(self) -> None:
        """Wait for the first piece: the response head leaves with it, so until then a failure can have its own status.

        :raises Failure: the upstream failed, or the client has left.
        """
        try:
            first = next(filter(None, asking(self._rest, self._gone)), b"")
        except BaseException as error:
            if isinstance(error, Failure):
                self._exchange.note_failure(error)
                self._bill.failed(error.status)
            self._bill.release("upstream_failed")
            close_body(self._body)
            raise
        if first:
            self._rest = chain((first,), self._rest)
        else:
            self._end()

    def __iter__(self) -> _PassedBody:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._rest)
        except StopIteration:
            self._end()
            raise
        except Exception as error:
            self._bill.settle("upstream_failed")
            if isinstance(error, Failure):  # no bug of the application: nothing for the server to log
                self._exchange.note_failure(error)
                raise connection_closed() from error
            raise
        if not piece and self._gone():
            self.close()
            raise connection_closed()
        return piece

    def close(self) -> None:
        try:
            close_body(self._body)
        finally:
            self._bill.hung_up()

    def _end(self) -> None:
        if isinstance(self._body, LongBody):
            self._bill.report(self._body.usage())
        self._bill.settle("completed")
