"""The stack: every middleware in its order, around HTTP upstreams or around your own application.

The only place where configuration meets construction: sections are handed on as plain values.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sseproxy.access import Access
from sseproxy.config import Config, Place, Prompt, PromptFor
from sseproxy.core.chat import API_PATHS
from sseproxy.core.mapping import AnswerMapping
from sseproxy.core.normalize import Dialect
from sseproxy.core.origins import Origins
from sseproxy.core.path_patterns import PathPatterns, plain_path
from sseproxy.core.prompt import Prefix
from sseproxy.endpoints import HealthEndpoints, OwnPaths, StreamsEndpoint, UsageEndpoint
from sseproxy.lasting import Lasting
from sseproxy.listing import ModelsEndpoint
from sseproxy.metrics import METRICS_PATH
from sseproxy.middleware.accounting import AccountingMiddleware
from sseproxy.middleware.auth import ANONYMOUS, AuthMiddleware
from sseproxy.middleware.awake import AwakeMiddleware
from sseproxy.middleware.content import ContentMiddleware
from sseproxy.middleware.cors import CorsMiddleware, is_preflight
from sseproxy.middleware.credentials import CredentialReader
from sseproxy.middleware.cross_site import CrossSiteMiddleware
from sseproxy.middleware.cut import CutMiddleware
from sseproxy.middleware.drain import DrainMiddleware
from sseproxy.middleware.format import FormatMiddleware
from sseproxy.middleware.hosts import HostsMiddleware
from sseproxy.middleware.input import InputMiddleware
from sseproxy.middleware.joining import PATH as STREAMS
from sseproxy.middleware.joining import Joining
from sseproxy.middleware.limits import LimitsMiddleware
from sseproxy.middleware.log import LogMiddleware
from sseproxy.middleware.mapped import MappedMiddleware
from sseproxy.middleware.normalize import NormalizeMiddleware
from sseproxy.middleware.options import OptionsMiddleware
from sseproxy.middleware.prompt import Prefixes, PromptMiddleware
from sseproxy.middleware.resume import ResumeMiddleware
from sseproxy.middleware.route import RouteMiddleware
from sseproxy.middleware.their_cors import TheirCorsMiddleware, noting_calls
from sseproxy.middleware.trusted_proxy import TrustedProxyMiddleware
from sseproxy.models import Models
from sseproxy.probe import PATH as PROBE
from sseproxy.probe import ProbeEndpoint
from sseproxy.routes import Routes
from sseproxy.upstream.switch import UpstreamSwitch
from sseproxy.upstreams import make_pool, make_redactor, passthrough_paths
from sseproxy.users import Users
from sseproxy.web.dashboard.app import PATHS as DASHBOARD
from sseproxy.web.pages import FILES, ChatPage
from sseproxy.wsgi.errors import tell_refusal
from sseproxy.wsgi.exchange import Target

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.app")

ENDPOINTS = frozenset({"/-/health", "/-/ready", "/-/usage", PROBE, METRICS_PATH, *FILES})


class Stack:
    """The concerns that proxy and wrapper share, around an innermost application. One for each configuration.

    :param lasting: what it shares with the stack before it and the one after it.
    :ivar app: the outermost middleware.
    """

    app: WSGIApplication

    def __init__(self, config: Config, lasting: Lasting) -> None:
        self.config = config
        self._lasting = lasting
        self.users = Users(config)
        self.routes = Routes(config.routes, config.prompt)
        self._origins = Origins(config.cors.origins)
        self._paths = ENDPOINTS | DASHBOARD if config.dashboard.enabled else ENDPOINTS
        self._joining = Joining(lasting.streams, keepalive=config.streams.keepalive)

    def _metered(self, app: WSGIApplication, *, pooled: bool = False) -> WSGIApplication:
        """The middlewares around a model's call, from the innermost outwards."""
        section = self.config.accounting
        dialects = {name: Dialect(**each.dialect.model_dump()) for name, each in self.config.upstreams.items()}
        app = NormalizeMiddleware(
            app, dialects=dialects, keepalive=self.config.streams.keepalive, redact=make_redactor(self.config)
        )
        if pooled:
            app = make_pool(app, self.config, self._lasting.telemetry.cooling)
        app = CutMiddleware(app, self._lasting.draining)
        linger = section.drain_limit if section.client_gone == "drain" else 0.0
        lasting = self._lasting
        app = AccountingMiddleware(app, lasting.books, lasting.tokenizer, linger=linger, bookkeeper=lasting.bookkeeper)
        if section.store_content:
            app = ContentMiddleware(app, lasting.contents.keep)
        prefixes = _prefixes(self.config.prompt)
        if prefixes.change_prompts or self.config.routes:  # a route may have a prefix of its own
            app = PromptMiddleware(app, prefixes)
        if self.config.has_limits:
            app = LimitsMiddleware(app, lasting.limiter)
        app = lasting.telemetry.traced(app, self.config)
        if self.config.routes:
            app = FormatMiddleware(app)
        app = AwakeMiddleware(app, keepalive=self.config.streams.keepalive)
        app = DrainMiddleware(app, lasting.draining)
        return ResumeMiddleware(app, self._joining)

    def _with_routes(self, app: WSGIApplication) -> WSGIApplication:
        if not self.config.routes:
            return app
        return InputMiddleware(app, self.routes.match, max_body=self.config.server.max_body)

    def _guarded(self, app: WSGIApplication, *, wrapped: WSGIApplication | None = None) -> WSGIApplication:
        """The middlewares of access, around the application and the proxy's own paths.

        :param wrapped: the wrapped application, as it answers OPTIONS.
        """
        origins = self._origins
        lasting = self._lasting
        access = Access(self.config, self.users, lasting.books)
        readers = access.readers()
        own = self._let_in(self._own_for_users(app), readers)
        if self.config.dashboard.enabled:
            own = access.dashboard(own, lasting.ledger.ledger, lasting.limiter)
        own = ChatPage(CrossSiteMiddleware(own, origins, is_exempt=self._is_theirs))
        checks = (lasting.draining.check, lasting.books.ping, lasting.limiter.ping, lasting.streams.ping)
        own = lasting.telemetry.told(HealthEndpoints(own, *checks))
        app = OwnPaths(CrossSiteMiddleware(self._let_in(app, readers), origins, is_exempt=self._is_theirs), own)
        if hosts := self.config.server.allowed_hosts:
            app = HostsMiddleware(app, hosts)
        return self._outermost(app, wrapped)

    def _outermost(self, app: WSGIApplication, wrapped: WSGIApplication | None = None) -> WSGIApplication:
        """The middlewares around every answer, including the server's own refusals."""
        count = self._lasting.telemetry.counting(self.config, self.routes.pattern, self._paths)
        app = LogMiddleware(app, self.config.log.format, shown=self._shown, count=count)
        if self._origins or wrapped is None:
            app = CorsMiddleware(app, self._origins, credentials=self.config.cors.credentials)
        else:
            app = TheirCorsMiddleware(app, wrapped)
        proxy = self.config.server.trusted_proxy
        # Without a configured proxy a wrapped application decides itself what to make of forwarded headers.
        return app if wrapped is not None and proxy is None else TrustedProxyMiddleware(app, proxy)

    def _own_for_users(self, app: WSGIApplication) -> WSGIApplication:
        app = StreamsEndpoint(app, self._joining)
        app = UsageEndpoint(app, self._lasting.books, self._lasting.limiter, self.users.find)
        return ProbeEndpoint(app, keepalive=self.config.streams.keepalive)

    def _let_in(self, app: WSGIApplication, readers: Sequence[CredentialReader]) -> WSGIApplication:
        required, anonymous = self.config.auth.required, self.users.find(ANONYMOUS.name)
        return AuthMiddleware(app, readers, required=required, anonymous=anonymous, public=self._is_public)

    def _shown(self, path: str) -> str:
        """A path for the log: a stream's ID works like credentials, and a route's variable may hold a prompt."""
        return f"{STREAMS}ID" if path.startswith(STREAMS) else self.routes.pattern(path)

    def _is_theirs(self, environ: WSGIEnvironment) -> bool:
        """Whether the wrapped application decides which web pages may send this request."""
        return False

    def _is_public(self, path: str) -> bool:
        """Whether a path needs no credentials. A stream's unguessable ID replaces them: EventSource cannot send any."""
        return path.startswith(STREAMS) or self.routes.is_public(path)


class ProxyStack(Stack):
    """In front of the configured upstreams.

    :ivar refusing: answers requests that the server refuses.
    """

    def __init__(self, config: Config, lasting: Lasting) -> None:
        super().__init__(config, lasting)
        upstreams = lasting.upstreams(config)
        models = _models(config)
        app = self._metered(UpstreamSwitch(upstreams), pooled=True)
        paths = passthrough_paths(config)
        app = RouteMiddleware(app, models.resolve, passthrough=paths, max_body=config.server.max_body)
        self.app = self._guarded(ModelsEndpoint(self._with_routes(app), models, upstreams))
        self.refusing = self._outermost(tell_refusal)
        if config.wrap.paths:
            log.warning("the section wrap is for sseproxy.SSEProxyMiddleware: a proxy has no application to wrap")


class WrapStack(Stack):
    """Around somebody's application.

    :ivar untaken: the application for requests that the stack does not take.
    """

    def __init__(self, config: Config, lasting: Lasting, app: WSGIApplication) -> None:
        super().__init__(config, lasting)
        resolve = _models(config, "app").resolve
        self._own_shapes = PathPatterns(config.wrap.paths)
        stack = RouteMiddleware(self._metered(noting_calls(app)), resolve, max_body=config.server.max_body)
        self._mapped = _mapped(self._with_routes(stack), config, resolve)
        self.untaken = OptionsMiddleware(app, self._is_model)
        self.app = self._guarded(self._mapped, wrapped=self.untaken)

    def takes(self, environ: WSGIEnvironment) -> bool:
        """Whether the stack answers, if only to refuse: it must see whatever the application might route to an LLM
        view.

        Frameworks are lenient: ``//v1/chat/completions/`` or a method in lower case reach the same view.
        """
        path = environ.get("PATH_INFO", "")
        if path in self._paths or path.startswith(STREAMS):
            return True
        if environ["REQUEST_METHOD"].upper() == "OPTIONS":
            return bool(self.config.cors.origins) and is_preflight(environ) and self._is_model(environ)
        return self._is_llm(environ, path) or self._mapped.takes(environ)

    def _is_theirs(self, environ: WSGIEnvironment) -> bool:
        return not self._origins and self._is_model(environ)

    def _is_model(self, environ: WSGIEnvironment) -> bool:
        """Whether a model answers at this path, by whatever method."""
        path = environ.get("PATH_INFO", "")
        return self._is_llm(environ, path) or path in self._own_shapes

    def _is_llm(self, environ: WSGIEnvironment, path: str) -> bool:
        # It may be mounted at /v1 itself.
        paths = (path, environ.get("SCRIPT_NAME", "") + path)
        return not API_PATHS.keys().isdisjoint(map(plain_path, paths)) or self.routes.match(path) is not None


def _mapped(app: WSGIApplication, config: Config, resolve: Callable[[str], Target | None]) -> MappedMiddleware:
    section = config.wrap
    return MappedMiddleware(
        app,
        AnswerMapping(section.usage, section.text, section.model),
        paths=PathPatterns(section.paths),
        methods=section.methods,
        resolve=resolve,
        model=section.default_model,
        max_body=config.server.max_body,
    )


def _models(config: Config, only: str | None = None) -> Models:
    """The models; ``only``: the one upstream that answers them all."""
    entries = config.models
    if only is not None:
        entries = {name: entry.model_copy(update={"upstream": (Place(name=only),)}) for name, entry in entries.items()}
    urls = {name: section.url for name, section in config.upstreams.items() if section.url}
    return Models(entries, only or next(iter(config.upstreams), ""), urls)


def _prefixes(section: Prompt) -> Prefixes:
    def one(text: str | None) -> Prefix:
        return Prefix(text or "", section.role, section.client_system)

    def each(named: Mapping[str, PromptFor]) -> dict[str, Prefix]:
        return {name: one(entry.prefix) for name, entry in named.items() if entry.prefix is not None}

    return Prefixes(one(section.prefix), each(section.models), each(section.users))
