"""App-facing routes: turns what a page sends, by GET or POST, as JSON or a form, into one chat request.

Inside of this middleware it is a POST to ``/v1/chat/completions`` like any other. The query is dropped: it may hold a
prompt, and upstreams log queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from werkzeug.http import parse_options_header

from sseproxy.core.chat import BadRequest, read_object
from sseproxy.core.failure import Failure
from sseproxy.core.inputs import Field
from sseproxy.core.route import Route
from sseproxy.wsgi.errors import MethodNotAllowed, refuse
from sseproxy.wsgi.exchange import DEFAULT_MAX_BODY, Exchange
from sseproxy.wsgi.form import MULTIPART, URLENCODED, Pairs, read_form, read_query

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CHAT_PATH: Final = "/v1/chat/completions"
JSON: Final = "application/json"
ACCEPTED: Final = (JSON, URLENCODED, MULTIPART)
URIS: Final = ("REQUEST_URI", "RAW_URI")
"""Where servers put the path with its query, besides PEP 3333's variables."""

Match = Callable[[str], tuple[Route, dict[str, str]] | None]
"""The route of a path and the values of its variables; None: it is no route."""


class InputMiddleware:
    """Turns a request at a route into the chat request it stands for, or refuses it and names the field at fault.

    A field is a variable of the path, else a field of the body, else a parameter of the query.

    :param match: finds the route of a path.
    :param max_body: bytes a request body may have.
    """

    def __init__(self, app: WSGIApplication, match: Match, *, max_body: int = DEFAULT_MAX_BODY) -> None:
        self.app = app
        self._match = match
        self._max_body = max_body

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        found = self._match(environ.get("PATH_INFO", ""))
        if found is None:
            return self.app(environ, start_response)
        route, variables = found
        try:
            # A copy: outer middlewares must still see the original request.
            environ = self._mapped({**environ}, route, variables)
        except Failure as failure:
            return refuse(failure, environ, _headers(failure))(environ, start_response)
        return self.app(environ, start_response)

    def _mapped(self, environ: WSGIEnvironment, route: Route, variables: dict[str, str]) -> WSGIEnvironment:
        exchange = Exchange.of(environ)
        exchange.route, exchange.prefix, exchange.format = route.pattern, route.prefix, route.format
        _check_method(environ, route)
        if route.inputs.path is not None:
            exchange.rejoin = variables[route.inputs.path]
            return _without_query(environ)
        body = exchange.read_bytes(environ, self._max_body) if environ["REQUEST_METHOD"] == "POST" else b""
        fields = _fields(environ, body, route.inputs.fields()) | variables
        request = route.inputs.read(fields, route.model)
        exchange.api, exchange.asked_model = request.api, request.model
        exchange.put_request(environ, request)
        environ |= {"REQUEST_METHOD": "POST", "PATH_INFO": CHAT_PATH}
        return _without_query(environ)


def _headers(failure: Failure) -> list[tuple[str, str]] | None:
    """The header that RFC 9110 (section 15.5.16) recommends for a 415."""
    return [("Accept", ", ".join(ACCEPTED))] if failure.status == 415 else None


def _check_method(environ: WSGIEnvironment, route: Route) -> None:
    if environ["REQUEST_METHOD"] not in route.methods:
        raise MethodNotAllowed(*route.methods)


def _fields(environ: WSGIEnvironment, body: bytes, names: frozenset[str]) -> dict[str, Field]:
    """The fields with these names; the body's take precedence over the query's."""
    fields: dict[str, Field] = {**_single(read_query(environ.get("QUERY_STRING", "")), names)}
    if not body:
        return fields
    content_type = environ.get("CONTENT_TYPE", "")
    mimetype, _ = parse_options_header(content_type)
    if mimetype in (URLENCODED, MULTIPART):
        return fields | _single(read_form(body, content_type), names)
    if mimetype == JSON or mimetype.endswith("+json"):
        raw = read_object(body)
        return fields | {name: raw[name] for name in names if name in raw}
    message = f"The body's Content-Type is not accepted here; send {', '.join(ACCEPTED[:-1])} or {ACCEPTED[-1]}."
    raise BadRequest(message, status=415, code="unsupported_media_type")


def _single(pairs: Pairs, names: frozenset[str]) -> dict[str, str]:
    """Each field's value. A repeated field is refused: proxies and frameworks differ in which value they take."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise BadRequest(f"The field '{name}' was sent more than once.", name)
        if name in names:
            found[name] = value
    return found


def _without_query(environ: WSGIEnvironment) -> WSGIEnvironment:
    uri = environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"]
    changed: dict[str, Any] = {key: uri for key in URIS if key in environ}
    return environ | changed | {"QUERY_STRING": ""}
