"""OPTIONS at a guarded path asks what is allowed there, without credentials: it gets no answer of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Final

from sseproxy.wsgi.call import call_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_OF_A_PROMPT: Final = frozenset(
    (
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "HTTP_TRANSFER_ENCODING",
        # By which frameworks take one method for another.
        "HTTP_X_HTTP_METHOD",
        "HTTP_X_HTTP_METHOD_OVERRIDE",
        "HTTP_X_METHOD_OVERRIDE",
    )
)


class OptionsMiddleware:
    """Lets the application say what it allows, but hands it no content, though RFC 9110 (section 9.3.7) lets a client
    send some, and hands on none: views that do not look at the method would run the model.

    :param guards: whether a request goes to a path that is guarded for other methods.
    """

    def __init__(self, app: WSGIApplication, guards: Callable[[WSGIEnvironment], bool]) -> None:
        self.app = app
        self._guards = guards

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"].upper() != "OPTIONS" or not self._guards(environ):
            return self.app(environ, start_response)
        asked = {name: value for name, value in environ.items() if name not in _OF_A_PROMPT}
        answer = call_app(self.app, {**asked, "QUERY_STRING": "", "wsgi.input": BytesIO()})
        answer.close()
        answer.drop_headers("Content-Length", "Content-Encoding", "Transfer-Encoding")
        if answer.code != 204:
            answer.set_header("Content-Length", "0")
        answer.body = []
        return answer(environ, start_response)
