"""The configuration that is valid in gunicorn's master: what its workers begin with, whenever they do."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from sseproxy.config import Config, keep_fixed
from sseproxy.server.log import log_warnings
from sseproxy.server.served import with_problems_logged


class Valid:
    """A configuration, until SIGHUP brings another one.

    :param load: gives that; None: there is no other.
    """

    def __init__(self, config: Config, load: Callable[[], Config | None] | None) -> None:
        self.config = config
        self._load = load

    def reload(self, master: Any) -> None:
        """SIGHUP: workers that run take on the new configuration in place, unless it cannot be used."""
        config = with_problems_logged(self._load) if self._load is not None else None
        if config is not None:
            self.config, _ = keep_fixed(self.config, config)
            log_warnings(self.config)
            master.kill_workers(signal.SIGHUP)
