"""A command of a package in a process of its own, which is forked from one that has done the proxy's imports.

They, and the vocabulary that it counts with, are nine tenths of a start, and some hundred tests have a proxy of their
own. Only the harness starts it so: how people start it is what other tests are about. May import nothing of it: what is
imported here is what every such proxy has imported.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parent.parent
_CONTEXT = multiprocessing.get_context("forkserver")
_IMPORTED = [
    __name__,
    "sseproxy.cli",
    "sseproxy.app",
    "sseproxy.server.waitress",
    "gunicorn.app.wsgiapp",
    "gunicorn.workers.gthread",
    "sseproxy.server.waitress_worker",
    "tests.preloaded",
]


def _parent(*first: str) -> forkserver.ForkServer:
    """Who waits with everything imported, is started with the first one that is forked from it."""
    parent = forkserver.ForkServer()
    parent.set_forkserver_preload([*first, *_IMPORTED])
    return parent


# gevent has to be there before what it replaces.
_PARENTS = {False: _parent(), True: _parent("tests.greenlets", "gunicorn.workers.ggevent")}


class Forked:
    """What the tests use of :class:`subprocess.Popen`.

    :param args: the package, and what comes after ``python -m package``.
    :param log: gets what it writes, standard output and error together.
    :param env: more variables, for whoever reads them after the imports.
    :param greenlets: it will serve with gevent.
    """

    def __init__(
        self,
        args: list[str],
        directory: Path,
        log: Path,
        env: Mapping[str, str] | None = None,
        *,
        greenlets: bool = False,
    ) -> None:
        log.touch()
        self.args = args
        environment = {**os.environ, **(env or {})}
        made = _CONTEXT.Process(target=_run, args=(args, str(directory), str(log), environment, greenlets))
        fork = _PARENTS[greenlets].connect_to_new_process
        with (
            mock.patch.dict(os.environ, PYTHONPATH=str(ROOT)),
            mock.patch.object(forkserver, "connect_to_new_process", fork),
        ):
            made.start()
        self._process = made
        self.pid: int = made.pid  # type: ignore[assignment]

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def terminate(self) -> None:
        self._process.terminate()


def _run(args: list[str], directory: str, log: str, environment: dict[str, str], greenlets: bool) -> None:
    if greenlets:
        import gevent

        gevent.reinit()
    out = os.open(log, os.O_WRONLY)
    for standard in (1, 2):
        os.dup2(out, standard)
    os.close(out)
    sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.argv = args
    try:
        runpy.run_module(args[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its processes without them
