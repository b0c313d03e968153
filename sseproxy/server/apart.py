"""Warns of stores in memory, which several processes on one machine do not share."""

from __future__ import annotations

import logging

from sseproxy.config import Config
from sseproxy.config.limits import DEFAULT

log = logging.getLogger("sseproxy.config")


def warn_of_apart(config: Config, processes: int) -> None:
    """Warn of the sections that then hold for each process alone."""
    if processes < 2:
        return
    several = f"memory:// with {processes} workers:"
    if config.streams.store.get_secret_value() == DEFAULT:
        log.warning("streams.store: %s a lost connection joins its answer again only if it meets the same one", several)
    if config.has_limits and config.limits.store.get_secret_value() == DEFAULT:
        log.warning("limits.store: %s each counts by itself, so users may have %d times theirs", several, processes)
