"""OPTIONS at a guarded path reaches the wrapped application without credentials, so it must not run a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Final

from sseproxy.wsgi.call import call_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_DROPPED_KEYS: Final = frozenset(
    (
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "HTTP_TRANSFER_ENCODING",
        # By these, frameworks take one method for another.
        "HTTP_X_HTTP_METHOD",
        "HTTP_X_HTTP_METHOD_OVERRIDE",
        "HTTP_X_METHOD_OVERRIDE",
    )
)


class OptionsMiddleware:
    """Passes OPTIONS to the application without its content, which RFC 9110 (section 9.3.7) allows, and returns only
    the head of the answer: views that ignore the method would run the model.

    :param guards: whether a request's path is guarded for other methods.
    """

    def __init__(self, app: WSGIApplication, guards: Callable[[WSGIEnvironment], bool]) -> None:
        self.app = app
        self._guards = guards

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"].upper() != "OPTIONS" or not self._guards(environ):
            return self.app(environ, start_response)
        asked = {name: value for name, value in environ.items() if name not in _DROPPED_KEYS}
        answer = call_app(self.app, {**asked, "QUERY_STRING": "", "wsgi.input": BytesIO()})
        answer.close()
        answer.drop_headers("Content-Length", "Content-Encoding", "Transfer-Encoding")
        if answer.code != 204:
            answer.set_header("Content-Length", "0")
        answer.body = []
        return answer(environ, start_response)
