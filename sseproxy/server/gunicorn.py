"""gunicorn: several processes, threads or greenlets in each. The one file that imports it; extra ``[gunicorn]``.

https://docs.gunicorn.org/en/stable/settings.html. What its workers do at a signal: see ``hooks``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from sseproxy import hangup
from sseproxy.config import Config, keep_fixed
from sseproxy.server import Load, Ready, ServerError, SetupError
from sseproxy.server.address import http_address, ipv6_works
from sseproxy.server.counting import count_waiting, forget_process, shared_counts
from sseproxy.server.drain import AFTER_GRACE, LOOK, SETTLE_SECONDS
from sseproxy.server.files import allow_files
from sseproxy.server.hooks import ALL_GO_DOWN, Worker, worker_exit, worker_int
from sseproxy.server.served import with_problems_logged

try:
    from gunicorn.app.base import BaseApplication
    from gunicorn.arbiter import Arbiter
    from gunicorn.glogging import Logger
except ImportError:
    raise SetupError('gunicorn is not installed; install it with: pip install "sseproxy[gunicorn]"') from None

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: Connections a gevent worker takes at a time. A kept one holds its place, and who gets none waits without a word.
GREENLETS: Final = 8192
#: Beyond all that a worker may take to go down.
MARGIN: Final = 2.0


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's own messages by the handlers of everything else."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class _Master(Arbiter):  # type: ignore[misc]
    """gunicorn's, but it goes down and reloads without cutting off what runs."""

    def init_signals(self) -> None:
        """Take over the signals."""
        super().init_signals()
        hangup.hand_over()

    def spawn_worker(self) -> Any:
        """Begin a worker. A SIGHUP would end it until it has its handler, so the signal is kept back until then."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def reload(self) -> None:
        """SIGHUP: workers that run take on the new configuration in place, unless it cannot be used."""
        if self.app.reload_config():
            self.kill_workers(signal.SIGHUP)

    def stop(self, graceful: bool = True) -> None:
        """Let the workers refuse and drain, with the address still open, then end them as gunicorn does."""
        if graceful:
            self._drain_workers()
            self.cfg.set("graceful_timeout", int(SETTLE_SECONDS))
        super().stop(graceful=False)

    def _drain_workers(self) -> None:
        """Until all have left, or a second signal comes, or it takes too long."""
        again: list[int] = []

        def hurry(number: int, frame: FrameType | None) -> None:
            again.append(number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, hurry)
        until = time.monotonic() + self.cfg.graceful_timeout
        self.kill_workers(ALL_GO_DOWN)
        while self.WORKERS and not again and time.monotonic() < until:
            time.sleep(LOOK)
            self.reap_workers()


class _Application(BaseApplication):  # type: ignore[misc]
    """gunicorn without its command line and files."""

    def __init__(self, build: Callable[[Config], WSGIApplication], config: Config, load: Load | None) -> None:
        self._build = build
        self._config = config
        self._load = load
        self.settings: dict[str, Any] = {}
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.settings.items():
            if name in self.cfg.settings:  # older versions know fewer
                self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """In the worker, after the fork: no connection, thread or lock is shared between processes."""
        return self._build(self._config)

    def reload_config(self) -> bool:
        """Load what later workers are to begin with; whether that can be used."""
        config = with_problems_logged(self._load) if self._load is not None else None
        if config is not None:
            self._config, _ = keep_fixed(self._config, config)
        return config is not None

    def run(self) -> None:
        _Master(self).run()


def run_gunicorn(
    build: Callable[[Config], WSGIApplication],
    config: Config,
    *,
    workers: int,
    worker_class: str,
    ready: Ready | None = None,
    load: Load | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    :raises ServerError: the server cannot run.
    """
    process = os.getpid()
    application = _Application(build, config, load)
    application.settings = _settings(config, workers, worker_class)
    application.settings["post_worker_init"] = _worker_ready(config, ready, load)
    application.load_config()
    try:
        with shared_counts(config):
            application.run()
    except SystemExit as end:
        if os.getpid() != process:  # a worker ends here too, after its fork
            raise
        if end.code not in (None, 0):
            raise ServerError("gunicorn ended early; its messages above say why") from None


def _settings(config: Config, workers: int, worker_class: str) -> dict[str, Any]:
    threads = config.server.threads
    connections = max(GREENLETS if worker_class == "gevent" else 1000, 4 * threads)
    allow_files(3 * connections)
    patience = int(config.server.shutdown_grace + AFTER_GRACE + MARGIN)
    return {
        "bind": config.server.listen.replace("*:", "[::]:" if ipv6_works() else "0.0.0.0:"),
        "workers": workers,
        "worker_class": worker_class,
        "threads": threads if worker_class == "gthread" else 1,
        "worker_connections": connections,
        # Longer than the pools of clients and of nginx (60 s) keep a connection: the end that reuses it closes it.
        "keepalive": 75,
        "graceful_timeout": patience,
        # Some versions of gthread show no sign of life while they wait for their last answers.
        "timeout": max(30, patience + 10),
        "limit_request_line": 8190,
        # Whose X-Forwarded-* are believed is server.trusted_proxy's to say.
        "forwarded_allow_ips": "",
        "errorlog": "-",
        "loglevel": config.log.level,
        "logger_class": _Log,
        "proc_name": "sseproxy",
        "control_socket_disable": True,
        "worker_int": worker_int,
        "worker_exit": worker_exit,
        "child_exit": lambda server, worker: forget_process(worker.pid),
    }


def _worker_ready(config: Config, ready: Ready | None, load: Load | None) -> Callable[[Any], None]:
    def post_worker_init(worker: Any) -> None:
        Worker(worker, load, config.server.shutdown_grace).handle_signals()
        count_waiting(config, worker)
        # The first worker of all tells; one that replaces another does not.
        if ready is not None and worker.age == 1:
            ready([http_address(*each.getsockname()[:2]) for each in worker.sockets])

    return post_worker_init
