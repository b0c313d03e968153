"""Graceful shutdown, the same under every server: refuse new requests, let answers run for the grace period, end the
rest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

from sseproxy.server.served import Served

log = logging.getLogger("sseproxy.server")

CUT_SECONDS: Final = 3.0
"""After the grace: for answers to end themselves, which they do at their next event or idle tick (a second)."""
SETTLE_SECONDS: Final = 10.0
"""After that: for answers that were hung up on to be settled."""
AFTER_GRACE: Final = CUT_SECONDS + SETTLE_SECONDS
LAST_WORD: Final = 0.25
"""Seconds for which an ending process still answers on open connections, with ``Connection: close``."""
LOOK: Final = 0.1
"""Seconds between two checks."""


class Drain:
    """One shutdown, begun by the constructor.

    :param hang_up: closes every client connection that an answer runs on.
    :param is_idle: whether nothing is running.
    """

    def __init__(
        self, served: Served, grace: float, hang_up: Callable[[], object], is_idle: Callable[[], bool] | None = None
    ) -> None:
        served.drain(grace)
        self._hang_up = hang_up
        self._is_idle = is_idle or (lambda: not served.running)
        self._hung_up = False
        self._hang_up_at = monotonic() + grace + (CUT_SECONDS if served.can_drain else 0.0)
        if not self._is_idle():
            log.info("going down: %d answers run, for at most %g s; a second signal ends them", served.running, grace)

    def is_over(self) -> bool:
        """Whether there is nothing left to wait for. To be called every :data:`LOOK` seconds."""
        if self._is_idle():
            return True
        now = monotonic()
        if not self._hung_up and now >= self._hang_up_at:
            self._hung_up = True
            self._hang_up()
        return now >= self._hang_up_at + SETTLE_SECONDS
