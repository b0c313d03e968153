"""An application as a server runs it: what runs on it, and what it offers besides answering.

``drain(grace)``, ``running``, ``reload(config)``, ``config``, ``max_body``, ``can_relay``, ``refusing`` and ``close()``
are used where the application has them.
"""

from __future__ import annotations

import _thread
import logging
import select
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sseproxy.config import Config, ConfigError
from sseproxy.core.failure import Failure
from sseproxy.wsgi.closing import ClosingBody
from sseproxy.wsgi.errors import tell_refusal
from sseproxy.wsgi.relay import Relay

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.server")

ANY_BODY: Final = 2**40
"""For applications that say nothing of it."""


class Served:
    """A WSGI application that knows its own open answers.

    :param has_threads: answers run in threads.
    :ivar relay: moves them, if they may be written past the server: nothing else sees them on their way.
    """

    def __init__(self, app: WSGIApplication, *, has_threads: bool = True) -> None:
        self.app = app
        can_relay = has_threads and hasattr(select, "epoll") and getattr(app, "can_relay", False)
        self.relay = Relay() if can_relay else None
        self.is_draining = False
        # Changed by single steps: a signal handler reads it, which cannot wait for a lock.
        self._open: set[object] = set()
        self._reloading = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        token = object()
        self._open.add(token)
        ended = partial(self._open.discard, token)
        try:
            return ClosingBody.around(self.app(environ, start_response), ended)
        except BaseException:
            ended()
            raise

    @property
    def config(self) -> Config | None:
        """That of the application; None if it is not one of sseproxy's."""
        config = getattr(self.app, "config", None)
        return config if isinstance(config, Config) else None

    @property
    def max_body(self) -> int:
        """The longest body that the application takes, in bytes."""
        return int(getattr(self.app, "max_body", ANY_BODY))

    @property
    def refusing(self) -> WSGIApplication:
        """Answers what the server refuses; the application's own way, it is logged and pages may read it."""
        return getattr(self.app, "refusing", tell_refusal)

    @property
    def can_drain(self) -> bool:
        """Whether the application ends its answers itself when it is told to."""
        return hasattr(self.app, "drain")

    @property
    def running(self) -> int:
        """How many answers run, those that go on without their client included."""
        return max(len(self._open), getattr(self.app, "running", 0))

    def drain(self, grace: float) -> None:
        """Begin nothing new, and end what still runs after so many seconds.

        Answers go on in their own threads, where each can be cut and settled by itself.
        """
        self.is_draining = True
        drain: Callable[[float], object] | None = getattr(self.app, "drain", None)
        if drain is not None:
            drain(grace)
        self._close_relay()

    def reload(self, load: Callable[[], Config | None] | None) -> None:
        """Take on what ``load`` gives, else what the application finds itself. What goes wrong is logged, and changes
        nothing.
        """
        reload: Callable[..., Any] | None = getattr(self.app, "reload", None)
        if reload is None:
            log.warning("SIGHUP: the application cannot be given another configuration")
            return

        def take_on() -> None:
            config = load() if load is not None else None
            reload() if config is None else reload(config)

        # What is loaded last is taken on last, however quickly one signal follows another.
        with self._reloading:
            with_problems_logged(take_on)

    def begin_reload(self, load: Callable[[], Config | None] | None) -> None:
        """:meth:`reload` in a thread of its own: reading files and making connections takes its time."""
        try:
            _thread.start_new_thread(self.reload, (load,))
        except RuntimeError:
            log.error("the configuration was not loaded again, the old one stays: no thread is left to do it")

    def close(self) -> None:
        """Close the application and the relay."""
        close = getattr(self.app, "close", None)
        if close is not None:
            close()
        self._close_relay()

    def _close_relay(self) -> None:
        if self.relay is not None:
            self.relay.close()


def with_problems_logged(load: Callable[[], Any]) -> Any:
    """What ``load`` returns; None if that fails, which leaves everything as it was."""
    try:
        return load()
    except ConfigError as error:
        for problem in error:
            log.error("%s", problem)
        count = len(error.problems)
        log.error("the configuration was not loaded again: %d problem%s; the old one stays", count, "s" * (count > 1))
    except (Failure, RuntimeError, ValueError) as error:
        log.error("the configuration was not loaded again, the old one stays: %s", error)
    except Exception:
        log.exception("the configuration was not loaded again, the old one stays")
    return None
