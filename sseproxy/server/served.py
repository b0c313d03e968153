"""An application as a server runs it: its running answers, and its optional interface to the server.

That is ``drain(grace)``, ``running``, ``reload(config)``, ``config``, ``max_body``, ``can_relay``, ``refusing`` and
``close()``, each used if the application has it.
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
"""The limit for applications that state none."""


class Served:
    """A WSGI application that tracks its open answers.

    :param has_threads: answers run in threads.
    :ivar relay: moves answers, if these may be written to the socket past the server.
    """

    def __init__(self, app: WSGIApplication, *, has_threads: bool = True) -> None:
        self.app = app
        can_relay = has_threads and hasattr(select, "epoll") and getattr(app, "can_relay", False)
        self.relay = Relay() if can_relay else None
        self.is_draining = False
        # Changed in atomic steps: a signal handler reads it, which cannot wait for a lock.
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
        """The application's; None if it is not one of sseproxy's."""
        config = getattr(self.app, "config", None)
        return config if isinstance(config, Config) else None

    @property
    def max_body(self) -> int:
        """The longest request body that the application accepts, in bytes."""
        return int(getattr(self.app, "max_body", ANY_BODY))

    @property
    def refusing(self) -> WSGIApplication:
        """Answers requests that the server refuses; the application's own does so with its log and CORS headers."""
        return getattr(self.app, "refusing", tell_refusal)

    @property
    def can_drain(self) -> bool:
        """Whether the application can end its answers itself."""
        return hasattr(self.app, "drain")

    @property
    def running(self) -> int:
        """How many answers are running, including those whose client has left."""
        return max(len(self._open), getattr(self.app, "running", 0))

    def drain(self, grace: float) -> None:
        """Accept no new requests, and end the answers that still run after ``grace`` seconds.

        They leave the relay for their own threads, where each can be cut and settled by itself.
        """
        self.is_draining = True
        drain: Callable[[float], object] | None = getattr(self.app, "drain", None)
        if drain is not None:
            drain(grace)
        self._close_relay()

    def reload(self, load: Callable[[], Config | None] | None) -> None:
        """Apply the configuration that ``load`` returns, else let the application load its own. Errors are logged, and
        change nothing.
        """
        reload: Callable[..., Any] | None = getattr(self.app, "reload", None)
        if reload is None:
            log.warning("SIGHUP: the application cannot be given another configuration")
            return

        def take_on() -> None:
            config = load() if load is not None else None
            reload() if config is None else reload(config)

        # One at a time: what is loaded last must be applied last.
        with self._reloading:
            with_problems_logged(take_on)

    def begin_reload(self, load: Callable[[], Config | None] | None) -> None:
        """:meth:`reload` in a new thread: reading files and opening connections takes time."""
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
