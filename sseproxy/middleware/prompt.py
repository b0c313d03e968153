"""The prompt prefix of a request: the most specific one that applies (route, user, model, all)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sseproxy.core.failure import Failure
from sseproxy.core.prompt import Prefix
from sseproxy.wsgi.errors import refuse
from sseproxy.wsgi.exchange import KEY, Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


@dataclass(frozen=True)
class Prefixes:
    """The prefix for everybody, and those for single models (by pattern) and users."""

    default: Prefix
    models: Mapping[str, Prefix] = field(default_factory=dict)
    users: Mapping[str, Prefix] = field(default_factory=dict)

    @property
    def change_prompts(self) -> bool:
        """Whether any prompt can be changed at all."""
        every = (self.default, *self.models.values(), *self.users.values())
        return any(prefix.text or prefix.client_system != "keep" for prefix in every)

    def choose(self, user: str | None, model: str) -> Prefix:
        """User beats model beats default."""
        if user is not None and user in self.users:
            return self.users[user]
        for pattern, prefix in self.models.items():
            if fnmatchcase(model, pattern):
                return prefix
        return self.default


class PromptMiddleware:
    """Puts the operator's text before the client's prompt.

    :param prefixes: which text for whom.
    """

    def __init__(self, app: WSGIApplication, prefixes: Prefixes) -> None:
        self.app = app
        self._prefixes = prefixes

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange: Exchange = environ.get(KEY) or Exchange.of(environ)
        try:
            request = exchange.request or exchange.read_request(environ)
            if request is not None:
                user = exchange.user.name if exchange.user is not None else None
                prefix = exchange.prefix or self._prefixes.choose(user, exchange.asked_model)
                if prefix.text or prefix.client_system != "keep":
                    exchange.put_request(environ, prefix.apply(request))
        except Failure as failure:
            return refuse(failure, environ)(environ, start_response)
        return self.app(environ, start_response)
