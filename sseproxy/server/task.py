"""One request of waitress and the answer to it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.task import WSGITask, hop_by_hop
from waitress.utilities import RequestEntityTooLarge, build_http_date

from sseproxy.core.failure import Failure
from sseproxy.server.dispatcher import Busy
from sseproxy.wsgi.call import close_body
from sseproxy.wsgi.errors import REFUSED_KEY, tell_refusal
from sseproxy.wsgi.ride import RELAY_KEY
from sseproxy.wsgi.upload import too_large

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger("sseproxy.server")

REMEMBERED: Final = 256
"""Names, and rows of names, of fields that are known again."""
_OF_WAITRESS: Final = frozenset({"Connection", "Date", "Server"})
"""Fields of which waitress makes more than a line of the head."""
_BODYLESS: Final = ("204", "304")
_LENGTH: Final = "Content-Length"
_NO_LINE: Final = "%.0s"
"""For the value of a field that is left out."""
_HOP_BY_HOP: Final = frozenset(name.title() for name in hop_by_hop)


class Task(WSGITask):  # type: ignore[misc]
    """Keeps the connection, except while the server goes down; an application may not say so itself (PEP 3333)."""

    wrote_header: bool
    complete: bool
    has_body = True

    def service(self) -> None:
        # waitress takes every OSError for the word that the client has left.
        try:
            self.start()
            self.execute()
            self.finish()
        except OSError as error:
            is_meant = self.wrote_header and isinstance(error, BrokenPipeError)
            if self.channel.connected and not is_meant:
                raise
            self.close_on_finish = True

    def execute(self) -> None:
        self._send(self.channel.server.application(self.get_environment(), self.start_response))

    def _send(self, body: Iterable[bytes]) -> None:
        try:
            for piece in body:
                if piece:  # before the first that is not empty no head is sent (PEP 3333)
                    self.write(piece)
            if self.content_length not in (None, self.content_bytes_written) and self.request.command != "HEAD":
                # A client that still waits for the rest is told like this.
                self.set_close_on_finish()
                log.warning(
                    "the application returned %d bytes where its Content-Length says %d",
                    self.content_bytes_written,
                    self.content_length,
                )
        finally:
            close_body(body)

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """As the application is called with it (PEP 3333).

        :raises AssertionError: it was called before, or is given a hop-by-hop field.
        :raises ValueError: a line end in the status or in a field.
        :raises TypeError: one of them is no string.
        """
        if exc_info:
            if self.wrote_header and exc_info[1] is not None:
                raise exc_info[1].with_traceback(exc_info[2])
            self.response_headers = []
            self.content_length = None
        elif self.complete:
            raise AssertionError("start_response was called a second time without exc_info")
        names, values = zip(*headers, strict=True) if headers else ((), ())
        form = _form(status, names)
        text = "".join(values)
        if "\r" in text or "\n" in text:
            raise ValueError("a line end in the value of a header field")
        self.complete = True
        self.status = status
        self.has_body = form.has_body
        if form.length_at is not None:
            self.content_length = int(values[form.length_at])
        self.form, self.values = form, values
        self.response_headers += headers
        return self.write

    def build_response_header(self) -> bytes:
        if self.channel.served.is_draining or self.request.connection_close:
            self.set_close_on_finish()
        head = self._plain_head() or bytes(super().build_response_header())
        self.channel.chunked = self.chunked_response
        return head

    def _plain_head(self) -> bytes | None:
        """The head of an answer after which the connection goes on; None where waitress is to say how."""
        form = self.form
        if self.version != "1.1" or self.close_on_finish or form.is_special:
            return None
        framing = ""
        if form.has_body and form.length_at is None:
            if self.request.command == "HEAD":
                return None
            framing = "Transfer-Encoding: chunked\r\n"
            self.chunked_response = True
        own = _own_lines(self.channel.adj.ident, int(self.start_time))
        return f"{form.lines % self.values}{framing}{own}\r\n".encode("latin-1")

    def write(self, data: bytes) -> None:
        if self.wrote_header and self.chunked_response and data:
            self.channel.write_soon(b"%X\r\n%b\r\n" % (len(data), data))
            return
        if self.wrote_header or not self.complete:
            super().write(data)
            return
        head = self.build_response_header()
        self.wrote_header = True
        # What comes with the head leaves in one packet with it.
        if self.chunked_response and data:
            self.channel.write_soon(b"%b%X\r\n%b\r\n" % (head, len(data), data))
        elif self.content_length is not None and len(data) <= self.content_length and self.has_body:
            self.content_bytes_written = len(data)
            self.channel.write_soon(head + data)
        else:
            self.channel.write_soon(head)
            super().write(data)

    def set_close_on_finish(self) -> None:
        # waitress would close after every chunked answer, which says itself where it ends (RFC 9112 section 7.1).
        # It sends that end with the answer to a HEAD too, where nothing may follow the head.
        if not self.chunked_response or self.request.command == "HEAD":
            super().set_close_on_finish()

    def get_environment(self) -> dict[str, Any]:
        # Not kept, as waitress does: what it holds leads back here, by start_response.
        request, channel = self.request, self.channel
        environ = {
            **channel.environ,
            "REQUEST_METHOD": request.command,
            "SERVER_PROTOCOL": f"HTTP/{self.version}",
            "PATH_INFO": request.path,  # waitress reads // at the beginning as /, and gunicorn does not
            "REQUEST_URI": request.request_uri,
            "QUERY_STRING": request.query,
            "wsgi.url_scheme": request.url_scheme,
            "wsgi.input": request.get_body_stream(),
            "waitress.client_disconnected": channel.check_client_disconnected,
        }
        headers = request.headers
        environ.update(zip(map(_keys.__getitem__, headers), headers.values(), strict=True))
        if channel.relay is not None:
            environ[RELAY_KEY] = channel.open_ride
        return environ


class RefusalTask(Task):
    """A request that the server itself refuses (no HTTP, far too large, too many) is answered as any other."""

    def execute(self) -> None:
        app: WSGIApplication = tell_refusal
        environ: dict[str, Any] = {"REQUEST_METHOD": ""}  # there is no head, or none to rely on
        if self.request.is_read:
            app, environ = self.channel.served.refusing, self.get_environment()
        self.set_close_on_finish()
        self._send(app({**environ, REFUSED_KEY: self._failure(self.request.error)}, self.start_response))

    def _failure(self, error: Any) -> Failure:
        if isinstance(error, RequestEntityTooLarge):  # waitress's own limit is another, see _adjustments()
            return too_large(self.channel.server.max_body)
        return Failure(
            f"{error.reason}: {error.body}",
            status=error.code,
            type="invalid_request_error" if error.code < 500 else "server_error",
            retry_after=1 if isinstance(error, Busy) else None,
        )


def environ_of(channel: Any) -> dict[str, Any]:
    """What stands in the environ of each request of this connection, except ``wsgi.multiprocess``."""
    server = channel.server
    address, port = channel.addr[:2]
    if port is None:  # by a Unix socket, of which gunicorn says the same
        ends = {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "REMOTE_ADDR": ""}
    else:
        ends = {
            "SERVER_NAME": server.server_name,
            "SERVER_PORT": str(server.effective_port),
            "REMOTE_ADDR": address,
            "REMOTE_HOST": address,
            "REMOTE_PORT": str(port),
        }
    return {
        **ends,
        "SERVER_SOFTWARE": server.adj.ident,
        "SCRIPT_NAME": "",
        "wsgi.version": (1, 0),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": ReadOnlyFileBasedBuffer,
        "wsgi.input_terminated": True,
    }


class _Form(NamedTuple):
    """The head of an answer without the values of its fields.

    :ivar lines: with a place for each of them.
    :ivar has_body: there may be one.
    :ivar length_at: the number of the one that says how long the body is.
    :ivar is_special: waitress makes something else than a line of one of them.
    """

    lines: str
    has_body: bool
    length_at: int | None
    is_special: bool


@lru_cache(REMEMBERED)
def _form(status: str, names: tuple[str, ...]) -> _Form:
    """With fields of these names, in this order. Most answers have the same ones."""
    text = "".join((status, *names))
    if "\r" in text or "\n" in text:
        raise ValueError("a line end in the status or in the name of a header field")
    spelt = ["-".join(map(str.capitalize, name.split("-"))) for name in names]
    if forbidden := _HOP_BY_HOP.intersection(spelt):
        raise AssertionError(f"{min(forbidden)} is hop-by-hop, and the server's own matter (PEP 3333)")
    first = f"HTTP/1.1 {status}\r\n".replace("%", "%%")
    # Such an answer ends with its head, whatever its fields say (RFC 9112 section 6.3).
    has_body = status[:1] != "1" and status[:3] not in _BODYLESS
    lines = [_NO_LINE if name == _LENGTH and not has_body else f"{name.replace('%', '%%')}: %s\r\n" for name in spelt]
    lengths = [number for number, name in enumerate(spelt) if name == _LENGTH and has_body]
    is_special = not _OF_WAITRESS.isdisjoint(spelt) or status[:1] == "1"
    return _Form(first + "".join(lines), has_body, lengths[-1] if lengths else None, is_special)


class _Keys(dict[str, str]):
    """Where fields of a request stand in the environ (RFC 3875, 4.1.18)."""

    def __missing__(self, name: str) -> str:
        key = name if name in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{name}"
        if len(self) < REMEMBERED:
            self[name] = key
        return key


_keys: Final = _Keys()


@lru_cache(2)
def _own_lines(ident: str, second: int) -> str:
    """The fields that are the same in each answer of a second."""
    return f"Server: {ident}\r\nDate: {build_http_date(second)}\r\n"
