"""Paths at which a wrapped application answers in its own JSON shape: guarded and metered, never changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable
from typing import TYPE_CHECKING

from sseproxy.core.failure import Failure
from sseproxy.core.mapping import AnswerMapping
from sseproxy.middleware.route import NotFound, may_use
from sseproxy.wsgi.errors import refuse
from sseproxy.wsgi.exchange import DEFAULT_MAX_BODY, Exchange, Mapped, Target

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class MappedMiddleware:
    """Marks requests to these paths as :class:`~sseproxy.wsgi.exchange.Mapped`.

    :param mapping: how the answers are read.
    :param paths: see :class:`~sseproxy.core.path_patterns.PathPatterns`.
    :param methods: in upper case; GET includes HEAD.
    :param resolve: the target of a model name; None: no such model.
    :param model: the model that a request counts as, until its answer names another.
    :param max_body: bytes a request body may have.
    """

    def __init__(
        self,
        app: WSGIApplication,
        mapping: AnswerMapping,
        *,
        paths: Container[str],
        methods: Collection[str],
        resolve: Callable[[str], Target | None],
        model: str,
        max_body: int = DEFAULT_MAX_BODY,
    ) -> None:
        self.app = app
        self._mapping = mapping
        self._paths = paths
        self._methods = frozenset(methods) | ({"HEAD"} if "GET" in methods else frozenset())
        self._resolve = resolve
        self._model = model
        self._max_body = max_body

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self.takes(environ):
            try:
                self._map(environ, Exchange.of(environ))
            except Failure as failure:
                return refuse(failure, environ)(environ, start_response)
            if environ["REQUEST_METHOD"].upper() == "HEAD":  # the answer is generated and metered all the same
                environ = {**environ, "REQUEST_METHOD": "GET"}
        return self.app(environ, start_response)

    def takes(self, environ: WSGIEnvironment) -> bool:
        """Whether this request's path and method are declared."""
        return environ["REQUEST_METHOD"].upper() in self._methods and environ.get("PATH_INFO", "") in self._paths

    def _map(self, environ: WSGIEnvironment, exchange: Exchange) -> None:
        target = self._resolve(self._model) if may_use(exchange.user, self._model) else None
        if target is None:
            message = f"This path answers with the model '{self._model}', to which you do not have access."
            raise NotFound(message, "model_not_found")
        body = exchange.read_bytes(environ, self._max_body)
        exchange.api = None  # even at one of OpenAI's paths: the answer has another shape here
        exchange.asked_model, exchange.target = self._model, target
        exchange.mapped = Mapped(self._mapping, self._mapping.as_request(body, target.model), self._resolve)
