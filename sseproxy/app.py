"""The proxy and the wrapper: WSGI applications that can be given another configuration while they run."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from sseproxy.config import DEMO_KEY, Config, keep_fixed
from sseproxy.config.origin import Origin
from sseproxy.lasting import Lasting
from sseproxy.ledger.protocol import Ledger
from sseproxy.stack import ProxyStack, Stack, WrapStack
from sseproxy.wsgi.client_timeout import ClientTimeout
from sseproxy.wsgi.exchange import stand_alone

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.app")

LEAST_WRITE_KEY: Final = "eventlet.minimum_write_chunk_size"
"""Bytes that eventlet's server collects before it writes: 4096, unless the environ says otherwise."""
Source = str | os.PathLike[str] | Mapping[str, Any] | Config | None
S = TypeVar("S", bound=Stack)


def create_app(config: Source = None) -> Proxy:
    """The proxy as a WSGI application.

    :param config: a file, a mapping, a :class:`~sseproxy.config.Config`, or None for ``$SSEPROXY_CONFIG``, then
        ``./config.yaml``, then the built-in demo.
    :raises ConfigError: with every problem of the configuration.
    """
    return Proxy(config)


def _warn_of_the_demo(source: Source, config: Config) -> None:
    if source is None and config.is_built_in:
        log.warning(
            "no configuration was given or found: this is the built-in demo, and whoever knows the public key %s may "
            "use it and see all usage. Pass a configuration, or name a file in $SSEPROXY_CONFIG.",
            DEMO_KEY,
        )


class _Reloadable(ABC, Generic[S]):
    """A stack that can be replaced while answers run on it, and the parts that stacks share."""

    def __init__(self, source: Source) -> None:
        self._origin = Origin(source)
        config = self._origin.load()
        _warn_of_the_demo(source, config)
        self._lasting = Lasting(config)
        try:
            self._stack = self._build(config, self._lasting)
        except BaseException:
            self._lasting.close()
            raise
        self._client_timeout = ClientTimeout(config.streams.client_timeout)
        self._reloading = threading.Lock()
        self._process: int | None = None
        _APPS.add(self)

    @property
    def config(self) -> Config:
        """The configuration as it is now."""
        return self._stack.config

    @property
    def ledger(self) -> Ledger:
        """The books."""
        return self._lasting.ledger

    def reload(self, config: Source = None) -> None:
        """Apply a configuration to every new request; running answers end with the one they began with.

        Settings that a running process cannot change (addresses, threads, stores) are kept, and named in the log.

        :param config: as for :func:`create_app`; None: read again where the first one came from.
        :raises ConfigError: with every problem of the configuration; nothing has changed then.
        """
        # One at a time: otherwise the earlier of two files might be applied last.
        with self._reloading:
            loaded = self._origin.load_again() if config is None else Config.load(config)
            new, kept = keep_fixed(self.config, loaded)
            self._stack = self._build(new, self._lasting)
        for key in kept:
            log.warning("%s is as before: it takes effect at the next start", key)
        log.info("the configuration was loaded again: %s", new.source)

    def drain(self, grace: float) -> None:
        """Shut down: not ready, and refusing new requests, from now on. May be called in a signal handler.

        :param grace: seconds after which running answers are ended with an error event and settled.
        """
        self._lasting.draining.begin(grace)

    @property
    def running(self) -> int:
        """How many answers are being generated, including those whose client has left."""
        return self._lasting.draining.running

    def close(self) -> None:
        """End running answers; close the upstreams, the ledger and the stores."""
        _APPS.discard(self)
        self._client_timeout.close()
        self._lasting.close()

    @property
    def was_used_here(self) -> bool:
        """Whether this process has served a request: a forked process must not close what only the other one used."""
        return self._process == os.getpid()

    @abstractmethod
    def _build(self, config: Config, lasting: Lasting) -> S: ...

    def _answer(self, stack: S, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The answer of this stack, which may be replaced at any moment."""
        self._process = os.getpid()
        self._client_timeout.watch(environ)
        environ[LEAST_WRITE_KEY] = 0
        return stack.app(stand_alone(environ), start_response)


_APPS: Final[weakref.WeakSet[_Reloadable[Any]]] = weakref.WeakSet()
"""The applications that are not closed."""


@atexit.register
def _close_all() -> None:
    """For servers that close no application: settles what is still running in the background."""
    for app in list(_APPS):
        if app.was_used_here:
            app.close()


class Proxy(_Reloadable[ProxyStack]):
    """A WSGI application that stands in front of the configured upstreams."""

    can_relay: Final = True

    @property
    def max_body(self) -> int:
        """The longest body of a request that is not refused, in bytes."""
        return self.config.server.max_body

    @property
    def refusing(self) -> WSGIApplication:
        """Answers a request that the server refuses: see :data:`~sseproxy.wsgi.errors.REFUSED_KEY`."""
        return self._stack.refusing

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._answer(self._stack, environ, start_response)

    def _build(self, config: Config, lasting: Lasting) -> ProxyStack:
        return ProxyStack(config, lasting)


class SSEProxyMiddleware(_Reloadable[WrapStack]):
    """Meters, prefixes and normalises the LLM paths of an application; every other path is the application's alone.

    ``app.wsgi_app = SSEProxyMiddleware(app.wsgi_app, "config.yaml")``

    An LLM path spelt otherwise (``//``, a slash at the end) is refused with 404, another method than POST with 405;
    only OPTIONS reaches the application, without content and for its status and header fields alone, unless it is a
    preflight and ``cors.origins`` are configured.

    :param app: any WSGI application that itself answers ``/v1/chat/completions`` or another path of OpenAI's API.
    :param config: as for :func:`create_app`; its ``upstreams`` are not used.
    """

    def __init__(self, app: WSGIApplication, config: Source = None) -> None:
        if not callable(app):
            raise TypeError(f"expected a WSGI application, then the configuration, not {type(app).__name__} first")
        self.app = app
        super().__init__(config)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        stack = self._stack
        if not stack.takes(environ):
            return stack.untaken(environ, start_response)
        return self._answer(stack, environ, start_response)

    def _build(self, config: Config, lasting: Lasting) -> WrapStack:
        return WrapStack(config, lasting, self.app)
