"""waitress in the workers of gunicorn, which keeps the processes and shares its addresses among them.

``gunicorn -k sseproxy.server.waitress_worker.WaitressWorker``; ``sseproxy serve --server gunicorn`` has it. Of
gunicorn's settings those on HTTP itself have no effect here, and are refused if clients would be worse off without:
https://docs.gunicorn.org/en/stable/custom.html
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from math import inf
from time import monotonic
from types import FrameType
from typing import Any, ClassVar, Final

from gunicorn.workers.base import Worker

from sseproxy.server.corridor import Corridor
from sseproxy.server.door import Door
from sseproxy.server.drain import LAST_WORD, LOOK, SETTLE_SECONDS
from sseproxy.server.loop import Loop
from sseproxy.server.served import Served

CLIENT_TIMEOUT: Final = 30.0
"""Seconds, for an application that is not sseproxy's own and says nothing of it."""
IN_TIME: Final = 0.9
"""Of ``graceful_timeout``: for answers to end by themselves."""


class WaitressWorker(Worker):  # type: ignore[misc]
    """A process of gunicorn that answers as ``sseproxy serve`` does.

    :ivar has_threads: answers run in threads.
    :ivar has_last_word: it goes on answering for a moment after SIGTERM.
    """

    has_threads: Final = True
    has_last_word: Final = True
    alive: bool
    _corridor: ClassVar[Corridor | None] = None
    _loop: Loop | None = None
    _is_to_hang_up = False
    _spared_at = inf

    def __init__(self, *given: Any) -> None:
        """In the master, before the fork."""
        super().__init__(*given)
        if WaitressWorker._corridor is None:
            WaitressWorker._corridor = Corridor()

    @classmethod
    def check_config(cls, config: Any, log: Any) -> None:
        """Refuse what this cannot do.

        :raises RuntimeError: TLS is asked for, or another protocol than HTTP; gunicorn then ends with these words.
        """
        asked = {
            "TLS": config.is_ssl,
            "PROXY protocol": config.proxy_protocol not in (False, "off"),
            "uWSGI protocol": getattr(config, "protocol", "http") != "http",
        }
        for name in filter(asked.get, asked):
            raise RuntimeError(f"{cls.__name__} speaks no {name}: leave it to what stands in front, or use -k gthread")

    def run(self) -> None:
        """Serve until SIGTERM or the end of the master, then end what runs."""
        served = self.wsgi if isinstance(self.wsgi, Served) else Served(self.wsgi)
        config = served.config
        corridor = self._corridor
        assert corridor is not None
        with ExitStack() as closing:
            closing.callback(corridor.close)
            self._loop = loop = Loop(
                served,
                [{"sockets": [each.sock], "backlog": self.cfg.backlog} for each in self.sockets],
                threads=self.cfg.threads,
                connections=self.cfg.worker_connections,
                max_body=served.max_body,
                client_timeout=CLIENT_TIMEOUT if config is None else config.streams.client_timeout,
                environ={"wsgi.multiprocess": self.cfg.workers > 1},
            )
            closing.callback(loop.close, SETTLE_SECONDS)
            door = Door(loop, corridor, self.age)
            while self.alive and self.ppid == os.getppid():
                self._turn(door.patience)
                door.mind()
                if loop.dispatcher.taken >= self.max_requests and self._can_be_spared(loop, corridor):
                    self.log.info("Autorestarting worker after current request.")
                    self.alive = False
            served.is_draining = True  # so that each answer says that its connection ends
            door.close()
            self._leave(loop)

    def _can_be_spared(self, loop: Loop, corridor: Corridor) -> bool:
        """Whether clients need not wait until it has left, for gunicorn replaces it only then; in the end they must."""
        now = monotonic()
        self._spared_at = min(self._spared_at, now + self.cfg.graceful_timeout)
        return loop.is_idle() or corridor.has_room(besides=self.age) or now >= self._spared_at

    def _leave(self, loop: Loop) -> None:
        # At the end of that time the master kills: what is hung up on then has to be settled before.
        until = monotonic() + IN_TIME * self.cfg.graceful_timeout
        idle_until = min(until, monotonic() + LAST_WORD)
        while not loop.is_empty and monotonic() < idle_until:
            self._turn(LOOK)
        loop.hang_up_idle()
        # Where nobody has told it to: with the hooks, what outlasts the grace is ended in words.
        os.kill(os.getpid(), signal.SIGTERM)
        while not loop.is_idle() and monotonic() < until:
            self._turn(LOOK)

    def _turn(self, timeout: float) -> None:
        assert self._loop is not None
        self.notify()
        self._loop.turn(timeout)
        if self._is_to_hang_up:
            self._loop.hang_up()

    def handle_exit(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: take no new connections, from the next round on, which begins now."""
        super().handle_exit(number, frame)
        if self._loop is not None:
            self._loop.ring()

    def is_idle(self) -> bool:
        """Whether no answer runs or is on its way."""
        return self._loop is None or self._loop.is_idle()

    def hang_up(self) -> None:
        """Close every connection, in the thread of the loop: soon, and again for each that comes after."""
        self._is_to_hang_up = True
        if self._loop is not None:
            self._loop.ring()

    def waiting(self) -> int:
        """How many requests wait for a thread."""
        return 0 if self._loop is None else self._loop.dispatcher.waiting
