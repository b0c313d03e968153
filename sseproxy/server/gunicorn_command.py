"""What gunicorn's own command runs sseproxy with: see ``gunicorn_conf``."""

from __future__ import annotations

import argparse
import atexit
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from sseproxy import hangup
from sseproxy.config import Config
from sseproxy.config.given import give
from sseproxy.config.origin import Origin
from sseproxy.server.counting import count_waiting, share_counts
from sseproxy.server.gunicorn import on_starting, shared_settings
from sseproxy.server.hooks import Worker, hup_kept_back
from sseproxy.server.log import log_warnings, set_up_logging
from sseproxy.server.valid import Valid


def command_settings() -> dict[str, Any]:
    """gunicorn's settings and hooks, for the configuration that its application will find.

    :raises ConfigError: with every problem of the configuration.
    """
    origin = Origin(None)

    def load() -> Config:
        return _with_its_log(origin.load_again())

    with _where_it_will_be():
        config = _with_its_log(origin.load())
    log_warnings(config)
    hooks = _Hooks(config, load)
    return {
        **shared_settings(config),
        "on_starting": hooks.on_starting,
        "when_ready": hooks.when_ready,
        "post_fork": hooks.post_fork,
        "post_worker_init": hooks.post_worker_init,
    }


def _with_its_log(config: Config) -> Config:
    set_up_logging(config.log.format, config.log.level)
    return config


@contextmanager
def _where_it_will_be() -> Iterator[None]:
    """Within ``--chdir``, with the variables of ``-e``: gunicorn heeds both only when it has read its file.

    What they say wrongly is gunicorn's to complain of.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-e", "--env", action="append")
    parser.add_argument("--chdir")
    command, _ = parser.parse_known_args(sys.argv[1:])
    variable, _ = parser.parse_known_args(shlex.split(os.environ.get("GUNICORN_CMD_ARGS", "")))
    os.environ.update(each.split("=", 1) for each in command.env or variable.env or [] if "=" in each)
    before = os.getcwd()
    with suppress(OSError):
        os.chdir(command.chdir or variable.chdir or before)
    try:
        yield
    finally:
        os.chdir(before)


class _Hooks:
    """https://docs.gunicorn.org/en/stable/settings.html#server-hooks."""

    def __init__(self, config: Config, load: Callable[[], Config]) -> None:
        self._first = config
        self._load = load
        self._valid = Valid(config, load)
        self._master = os.getpid()
        # Before the application is imported, which --preload does before any hook.
        self._counts = share_counts(config)
        atexit.register(self._forget_counts)

    def on_starting(self, server: Any) -> None:
        """In the master, which with ``--daemon`` is another process by now."""
        self._master = os.getpid()
        server.reload = partial(self._valid.reload, server)
        server.spawn_worker = hup_kept_back()(server.spawn_worker)
        on_starting(server, self._first)

    def when_ready(self, server: Any) -> None:
        """In the master, which handles signals now."""
        hangup.hand_over()

    def post_fork(self, server: Any, worker: Any) -> None:
        """In the worker, before it loads its application."""
        give(self._valid.config)

    def post_worker_init(self, worker: Any) -> None:
        """In the worker, which has its application now: with ``--preload`` the one that the master began with."""
        inside = Worker(worker, self._follow_log, self._valid.config.server.shutdown_grace)
        if worker.cfg.preload_app and self._valid.config is not self._first:
            inside.served.reload(None)
        give(None)
        inside.handle_signals()
        count_waiting(self._valid.config, worker)

    def _follow_log(self) -> None:
        """Leave it to the application to read its own configuration again: it may be another one."""
        self._load()

    def _forget_counts(self) -> None:
        if self._counts is not None and os.getpid() == self._master:
            shutil.rmtree(self._counts, ignore_errors=True)
