"""Runs the WSGI application on a server that lets streams through: waitress (the default) or gunicorn.

Which server is told what is each runner's affair; what an answer is may not go in here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from sseproxy.config import Config

__all__ = ["Load", "Ready", "ServerError", "SetupError", "WorkerClass", "serve"]

#: Called once connections are accepted, with the addresses as ``http://HOST:PORT``.
Ready = Callable[[Sequence[str]], object]

#: What answers in a process of gunicorn: waitress or one of gunicorn's own, with threads or greenlets.
WorkerClass = Literal["waitress", "gthread", "gevent"]

#: Loads the configuration again, for SIGHUP; None: the application is to load its own.
Load = Callable[[], "Config | None"]


class ServerError(Exception):
    """The server cannot run now: the address is taken, the database is away. The message is for people."""


class SetupError(ServerError):
    """Nor could it at another time: an extra is not installed, arguments do not fit together."""


def serve(
    build: Callable[[Config], WSGIApplication],
    config: Config,
    *,
    server: Literal["waitress", "gunicorn"] = "waitress",
    workers: int | None = None,
    worker_class: WorkerClass = "waitress",
    ready: Ready | None = None,
    load: Load | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, let answers run for ``server.shutdown_grace``, end and settle the others, return.

    :param build: makes the application; called in this process for waitress, in each worker for gunicorn.
    :param workers: processes, gunicorn only; default 1.
    :param worker_class: gunicorn only: what answers in each process.
    :param ready: told the real addresses, also if port 0 was asked for.
    :param load: gives the configuration that the application takes on at SIGHUP.
    :raises ServerError: the server cannot run.
    """
    if server == "gunicorn":
        from sseproxy.server.gunicorn import run_gunicorn

        run_gunicorn(build, config, workers=workers or 1, worker_class=worker_class, ready=ready, load=load)
    else:
        from sseproxy.server.futexes import share_table
        from sseproxy.server.interpreter import suited_to_serving
        from sseproxy.server.waitress import run_waitress

        if workers not in (None, 1) or worker_class != "waitress":
            raise SetupError("waitress alone is one process: --workers and --worker-class need --server gunicorn")
        share_table()
        app = build(config)
        with suited_to_serving():
            run_waitress(app, config, ready=ready, load=load)
