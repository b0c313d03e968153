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
from sseproxy.config import Config
from sseproxy.server import Load, Ready, ServerError, SetupError, WorkerClass
from sseproxy.server.address import http_address, ipv6_works
from sseproxy.server.apart import warn_of_apart
from sseproxy.server.books import migrate_books
from sseproxy.server.counting import count_waiting, forget_process, shared_counts
from sseproxy.server.drain import AFTER_GRACE, LOOK, SETTLE_SECONDS
from sseproxy.server.files import allow_files
from sseproxy.server.hooks import ALL_GO_DOWN, Worker, hup_kept_back, worker_exit, worker_int
from sseproxy.server.valid import Valid

try:
    from gunicorn.app.base import BaseApplication
    from gunicorn.arbiter import Arbiter
    from gunicorn.glogging import Logger
    from gunicorn.sock import close_sockets
except ImportError:
    raise SetupError('gunicorn is not installed; install it with: pip install "sseproxy[gunicorn]"') from None

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

WAITRESS: Final = "sseproxy.server.waitress_worker.WaitressWorker"
#: Connections a gevent worker takes at a time. A kept one holds its place, and who gets none waits without a word.
GREENLETS: Final = 8192
#: Beyond all that a worker may take to go down.
MARGIN: Final = 2.0


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's own messages by the handlers of everything else."""

    def _set_handler(self, log: Any, output: Any, *args: Any, **options: Any) -> None:
        if log is self.error_log and output == "-":
            log.propagate = True
        else:
            super()._set_handler(log, output, *args, **options)


class _Master(Arbiter):  # type: ignore[misc]
    """gunicorn's, but it goes down and reloads without cutting off what runs."""

    LISTENERS: list[Any]

    def init_signals(self) -> None:
        """Take over the signals."""
        super().init_signals()
        hangup.hand_over()

    def spawn_worker(self) -> Any:
        """Begin a worker."""
        with hup_kept_back():
            return super().spawn_worker()

    def reload(self) -> None:
        """SIGHUP: workers that run take on the new configuration in place, unless it cannot be used."""
        self.app.valid.reload(self)

    def stop(self, graceful: bool = True) -> None:
        """Let the workers refuse and drain, with the address still open, then end them as gunicorn does."""
        if graceful:
            # The last worker closes the address, who takes whoever has come there; nobody would after that.
            close_sockets(self.LISTENERS, unlink=False)
            self.LISTENERS = []
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
        # Beside a new master (SIGUSR2) its workers take whoever comes.
        self.kill_workers(signal.SIGTERM if self.reexec_pid else ALL_GO_DOWN)
        while self.WORKERS and not again and time.monotonic() < until:
            time.sleep(LOOK)
            self.reap_workers()


class _Application(BaseApplication):  # type: ignore[misc]
    """gunicorn without its command line and files."""

    def __init__(self, build: Callable[[Config], WSGIApplication], config: Config, load: Load | None) -> None:
        self._build = build
        self.valid = Valid(config, load)
        self.settings: dict[str, Any] = {}
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.settings.items():
            if name in self.cfg.settings:  # older versions know fewer
                self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """In the worker, after the fork: no connection, thread or lock is shared between processes."""
        return self._build(self.valid.config)

    def run(self) -> None:
        _Master(self).run()


def run_gunicorn(
    build: Callable[[Config], WSGIApplication],
    config: Config,
    *,
    workers: int,
    worker_class: WorkerClass,
    ready: Ready | None,
    load: Load | None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    :raises ServerError: the server cannot run.
    """
    process = os.getpid()
    application = _Application(build, config, load)
    application.settings = {
        **shared_settings(config),
        "workers": workers,
        "worker_class": WAITRESS if worker_class == "waitress" else worker_class,
        "post_worker_init": _worker_ready(config, ready, load),
    }
    application.load_config()
    try:
        with shared_counts(config):
            application.run()
    except SystemExit as end:
        if os.getpid() != process:  # a worker ends here too, after its fork
            raise
        if end.code not in (None, 0):
            raise ServerError("gunicorn ended early; its messages above say why") from None


def shared_settings(config: Config) -> dict[str, Any]:
    """Settings and hooks that are the same under ``sseproxy serve`` and under gunicorn's own command."""
    patience = int(config.server.shutdown_grace + AFTER_GRACE + MARGIN)
    return {
        "bind": config.server.listen.replace("*:", "[::]:" if ipv6_works() else "0.0.0.0:"),
        "threads": config.server.threads,
        # Longer than the pools of clients and of nginx (60 s) keep a connection: the end that reuses it closes it.
        "keepalive": 75,
        "graceful_timeout": patience,
        # Some versions of gthread show no sign of life while they wait for their last answers.
        "timeout": max(30, patience + 10),
        # A heartbeat file on a slow disk is a known cause of spurious restarts.
        "worker_tmp_dir": "/dev/shm" if os.path.isdir("/dev/shm") else None,
        "limit_request_line": 8190,
        # Whose X-Forwarded-* are believed is server.trusted_proxy's to say.
        "forwarded_allow_ips": "",
        "errorlog": "-",
        "loglevel": config.log.level,
        "logger_class": _Log,
        "proc_name": "sseproxy",
        "control_socket_disable": True,
        "on_starting": lambda server: on_starting(server, config),
        "worker_int": worker_int,
        "worker_exit": worker_exit,
        "child_exit": lambda server, worker: forget_process(worker.pid),
    }


def on_starting(server: Any, config: Config) -> None:
    """gunicorn's hook: the master begins, and has no worker yet."""
    warn_of_apart(config, server.cfg.workers)
    allow_connections(server)
    migrate_books(config)


def allow_connections(server: Any) -> None:
    """As many as suit the kind of workers, which is known now, unless somebody has said how many."""
    connections = server.cfg.settings["worker_connections"]
    if connections.get() == connections.default:
        most = GREENLETS if "gevent" in server.cfg.worker_class_str.lower() else connections.default
        wanted = max(most, 4 * server.cfg.threads)
        # A worker that accepts one more than there are files for ends.
        connections.set(max(server.cfg.threads, allow_files(3 * wanted) // 3))
    else:
        allow_files(3 * connections.get())


def _worker_ready(config: Config, ready: Ready | None, load: Load | None) -> Callable[[Any], None]:
    def post_worker_init(worker: Any) -> None:
        Worker(worker, load, config.server.shutdown_grace).handle_signals()
        count_waiting(config, worker)
        # The first worker of all tells; one that replaces another does not.
        if ready is not None and worker.age == 1:
            ready([http_address(*each.getsockname()[:2]) for each in worker.sockets])

    return post_worker_init
