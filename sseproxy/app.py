"""The stack: every middleware in its order, around HTTP upstreams or around your own application.

The only place where configuration meets construction: sections are handed on as plain values.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sseproxy.config import DEMO_KEY, Config, Prompt, PromptFor, Upstream
from sseproxy.core.chat import API_PATHS
from sseproxy.core.normalize import Dialect
from sseproxy.core.prompt import Prefix
from sseproxy.core.redact import Redactor
from sseproxy.endpoints import HealthEndpoints, UsageEndpoint
from sseproxy.ledger.journal import open_journaled
from sseproxy.ledger.protocol import Ledger
from sseproxy.listing import ModelsEndpoint
from sseproxy.middleware.accounting import AccountingMiddleware
from sseproxy.middleware.auth import AuthMiddleware
from sseproxy.middleware.credentials import ConfiguredKeys, LedgerKeys, Reader, RemoteUser, Tokens
from sseproxy.middleware.limiter import Limiter
from sseproxy.middleware.limits import LimitsMiddleware
from sseproxy.middleware.log import LogMiddleware
from sseproxy.middleware.normalize import NormalizeMiddleware
from sseproxy.middleware.prompt import Prefixes, PromptMiddleware
from sseproxy.middleware.route import RouteMiddleware
from sseproxy.models import Models
from sseproxy.prices import PriceTable
from sseproxy.tokenizer import Tokenizer
from sseproxy.upstream.app import Timeout, UpstreamApp
from sseproxy.upstream.local import LocalUpstream
from sseproxy.upstream.pool import UpstreamPool
from sseproxy.users import Users

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.app")

Source = str | os.PathLike[str] | Mapping[str, Any] | Config | None

ENDPOINTS = frozenset({"/-/health", "/-/ready", "/-/usage"})


def create_app(config: Source = None) -> Proxy:
    """The proxy as a WSGI application.

    :param config: a file, a mapping, a :class:`~sseproxy.config.Config`, or None for ``$SSEPROXY_CONFIG``, then
        ``./config.yaml``, then the built-in demo.
    :raises ConfigError: with every problem of the configuration.
    """
    return Proxy(_load(config))


def _load(source: Source) -> Config:
    config = Config.load(source)
    if source is None and config.is_built_in:
        log.warning(
            "no configuration was given or found: this is the built-in demo, and whoever knows the public key %s may "
            "use it and see all usage. Pass a configuration, or name a file in $SSEPROXY_CONFIG.",
            DEMO_KEY,
        )
    return config


class _Stack:
    """The concerns that proxy and wrapper share, around an innermost application."""

    def __init__(self, config: Config) -> None:
        self.config = config
        books = config.accounting
        serve = books.on_ledger_down == "serve"
        self.ledger = open_journaled(books.ledger.get_secret_value(), books.journal, serve=serve)
        self.users = Users(config)
        self.limiter = Limiter(config.limits.store.get_secret_value())
        self._upstreams: dict[str, WSGIApplication] = {}
        self._accounting: AccountingMiddleware | None = None

    def close(self) -> None:
        """Stop watching running charges and let go of the upstreams, the ledger and the store of limits."""
        if self._accounting is not None:
            self._accounting.close()
        for upstream in self._upstreams.values():
            if isinstance(upstream, UpstreamApp):
                upstream.close()
        self.limiter.close()
        self.ledger.close()

    def _metered(self, app: WSGIApplication) -> WSGIApplication:
        """The concerns of one exchange's content, from the answer's side outwards."""
        section = self.config.accounting
        dialects = {name: Dialect(**each.dialect.model_dump()) for name, each in self.config.upstreams.items()}
        app = NormalizeMiddleware(
            app, dialects=dialects, keepalive=self.config.streams.keepalive, redact=_redactor(self.config)
        )
        linger = section.drain_limit if section.client_gone == "drain" else 0.0
        app = self._accounting = AccountingMiddleware(app, self.ledger, Tokenizer(), linger=linger)
        app = PromptMiddleware(app, _prefixes(self.config.prompt))
        return LimitsMiddleware(app, self.limiter)

    def _guarded(self, app: WSGIApplication) -> WSGIApplication:
        """The concerns of the door: who comes in, and what is written down of it."""
        app = UsageEndpoint(app, self.ledger, self.limiter, self.users.find)
        app = _auth(app, self.config, self.users, self.ledger)
        app = HealthEndpoints(app, self.ledger.ping, self.limiter.ping)
        return LogMiddleware(app, self.config.log.format)


class Proxy(_Stack):
    """A WSGI application that stands in front of the configured upstreams."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._upstreams = {name: _upstream(section) for name, section in config.upstreams.items()}
        models = _models(config)
        app = self._metered(UpstreamPool(self._upstreams))
        app = RouteMiddleware(app, models.resolve, passthrough=_passthrough(config), max_body=config.server.max_body)
        self._app = self._guarded(ModelsEndpoint(app, models, self._upstreams))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._app(environ, start_response)


class SSEProxyMiddleware(_Stack):
    """Meters, prefixes and normalises the LLM paths of an application; every other path is the application's alone.

    ``app.wsgi_app = SSEProxyMiddleware(app.wsgi_app, "config.yaml")``

    An LLM path spelt otherwise (``//``, a slash at the end) is refused with 404, another method than POST with 405;
    only OPTIONS reaches the application.

    :param app: any WSGI application that itself answers ``/v1/chat/completions`` or another path of OpenAI's API.
    :param config: as for :func:`create_app`; its ``upstreams`` are not used.
    """

    def __init__(self, app: WSGIApplication, config: Source = None) -> None:
        super().__init__(_load(config))
        self.app = app
        resolve = _models(self.config, "app").resolve
        stack = RouteMiddleware(self._metered(app), resolve, max_body=self.config.server.max_body)
        self._app = self._guarded(stack)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        app = self._app if _is_ours(environ) else self.app
        return app(environ, start_response)


def _is_ours(environ: WSGIEnvironment) -> bool:
    """Whether the stack answers, be it with a refusal: it must see whatever the application might take for an LLM call.

    Frameworks are lenient: ``//v1/chat/completions/`` or a method in small letters reach the same view.
    """
    path = environ.get("PATH_INFO", "")
    plain = "/" + "/".join(part for part in path.split("/") if part)
    # An OPTIONS request asks what is allowed, for CORS: it carries no credentials and costs nothing.
    return path in ENDPOINTS or (plain in API_PATHS and environ["REQUEST_METHOD"].upper() != "OPTIONS")


def _auth(app: WSGIApplication, config: Config, users: Users, ledger: Ledger) -> AuthMiddleware:
    section = config.auth
    readers: list[Reader] = [ConfiguredKeys(users.by_key()), LedgerKeys(ledger.find_key, users.find)]
    if section.jwt is not None:
        readers.append(Tokens(section.jwt.verifier(), users.find))
    if section.remote_user:
        readers.append(RemoteUser(users.find))
    return AuthMiddleware(app, readers, required=section.required, anonymous=users.find("anonymous"))


def _upstream(section: Upstream) -> WSGIApplication:
    if section.application is not None:
        return LocalUpstream(section.application)
    assert section.url is not None
    return UpstreamApp(
        section.url,
        api_key=section.api_key.get_secret_value() if section.api_key else None,
        headers={name: value.get_secret_value() for name, value in section.headers.items()},
        timeout=Timeout(**section.timeout.model_dump()),
        include_usage=section.include_usage,
    )


def _redactor(config: Config) -> Redactor:
    """What knows the secrets of every upstream."""
    secrets: list[str] = []
    for section in config.upstreams.values():
        own = [section.api_key] if section.api_key else []
        secrets += [secret.get_secret_value() for secret in (*own, *section.headers.values())]
    return Redactor(secrets)


def _models(config: Config, only: str | None = None) -> Models:
    """The models; ``only``: the one upstream that answers them all."""
    entries = config.models
    if only is not None:
        entries = {name: entry.model_copy(update={"upstream": only}) for name, entry in entries.items()}
    urls = {name: section.url for name, section in config.upstreams.items() if section.url}
    return Models(entries, only or next(iter(config.upstreams), ""), urls, PriceTable({}))


def _passthrough(config: Config) -> dict[str, str]:
    paths: dict[str, str] = {}
    for name, section in config.upstreams.items():
        for path in section.passthrough:
            paths.setdefault(path, name)
    return paths


def _prefixes(section: Prompt) -> Prefixes:
    def one(text: str | None) -> Prefix:
        return Prefix(text or "", section.role, section.client_system)

    def each(named: Mapping[str, PromptFor]) -> dict[str, Prefix]:
        return {name: one(entry.prefix) for name, entry in named.items() if entry.prefix is not None}

    return Prefixes(one(section.prefix), each(section.models), each(section.users))
