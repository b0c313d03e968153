"""Where a request goes: the path determines the API, the model determines the upstream."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from sseproxy.core.chat import API_PATHS
from sseproxy.core.failure import Failure
from sseproxy.core.further_models import further_models
from sseproxy.wsgi.errors import MethodNotAllowed, refuse
from sseproxy.wsgi.exchange import DEFAULT_MAX_BODY, KEY, Exchange, Target, User

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PLAIN: Final = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~:@!$&'()*+,=-]+)+")
"""A path that no server resolves to another one: no empty segment, no dot segments, nothing percent-encoded."""
_PASSTHROUGH_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Not TRACE (RFC 9110 section 9.3.8), nor IIS's TRACK: they echo the request, with the upstream's key in it."""

TWO_SLASHES: Final = (
    " Two slashes in a row are not taken for one: a client's base address has one too many, or a front puts it there"
    " (nginx: where `proxy_pass` ends with a slash after the host, so must its `location`)."
)


class NotFound(Failure):
    """The path or model does not exist, or is not this user's; as in OpenAI's API, the client cannot tell which."""

    def __init__(self, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message, status=404, type="invalid_request_error", code=code, param=param)


class RouteMiddleware:
    """Reads the request and resolves its model; unknown paths and models are refused before anything is sent or
    charged.

    :param resolve: the target of a model name; None: no such model.
    :param passthrough: further ``/v1/`` paths and the upstream that serves each; ``…/*`` for all below a path.
    :param max_body: bytes a request body may have.
    """

    def __init__(
        self,
        app: WSGIApplication,
        resolve: Callable[[str], Target | None],
        *,
        passthrough: Mapping[str, str] | None = None,
        max_body: int = DEFAULT_MAX_BODY,
    ) -> None:
        self.app = app
        self._resolve = resolve
        self._passthrough = passthrough or {}
        patterns = [path for path in self._passthrough if path.endswith("/*")]
        self._patterns = sorted(patterns, key=len, reverse=True)
        self._max_body = max_body

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange: Exchange = environ.get(KEY) or Exchange.of(environ)
        try:
            self._route(environ, exchange)
        except Failure as failure:
            return refuse(failure, environ)(environ, start_response)
        return self.app(environ, start_response)

    def _route(self, environ: WSGIEnvironment, exchange: Exchange) -> None:
        if exchange.mapped is not None:
            return
        request = exchange.read_request(environ, self._max_body)
        if request is not None:
            exchange.target = self._target(request.model, exchange.user)
            for name in further_models(request):
                # A name that the upstream knows by another one would mean a different model there.
                if name != exchange.target.model and self._target(name, exchange.user).model != name:
                    raise _no_such_model(name)
            if request.model != exchange.target.model:
                exchange.put_request(environ, request.with_model(exchange.target.model))
        elif exchange.rejoin:
            return
        elif (entry := self._entry_of(exchange.path)) is not None:
            if environ["REQUEST_METHOD"] not in _PASSTHROUGH_METHODS:
                raise MethodNotAllowed(*_PASSTHROUGH_METHODS)
            exchange.pass_bytes(environ, self._max_body)
            exchange.target, exchange.route = Target(self._passthrough[entry], ""), entry
        elif exchange.path in API_PATHS:
            raise MethodNotAllowed("POST")
        else:
            hint = TWO_SLASHES if "//" in exchange.path else ""
            raise NotFound(f"Unknown path: {environ['REQUEST_METHOD']} {exchange.path}.{hint}", "unknown_url")

    def _entry_of(self, path: str) -> str | None:
        """The ``passthrough`` entry that a path matches."""
        if path in self._passthrough:
            return path
        if self._patterns and _PLAIN.fullmatch(path):
            return next((each for each in self._patterns if path.startswith(each[:-1])), None)
        return None

    def _target(self, model: str, user: User | None) -> Target:
        target = self._resolve(model) if may_use(user, model) else None
        if target is None:
            raise _no_such_model(model)
        return target


def _no_such_model(model: str) -> NotFound:
    message = f"The model '{model}' does not exist here, or you do not have access to it."
    return NotFound(message, "model_not_found", "model")


def may_use(user: User | None, model: str) -> bool:
    """Whether the user's list of models admits this one."""
    return user is None or "*" in user.models or any(fnmatchcase(model, pattern) for pattern in user.models)
