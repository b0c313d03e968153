"""A configuration that was read already, for applications made of the same file, which may have been edited since.

So a new worker of gunicorn has what its master, and the other workers, have.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from sseproxy.config.config import Config
from sseproxy.config.source import file_meant

_GIVEN: Final[ContextVar[Config | None]] = ContextVar("sseproxy_given", default=None)


def give(config: Config | None) -> None:
    """Let applications have it from now on; None: let them read their files themselves."""
    _GIVEN.set(config)


def load_or_given(source: str | os.PathLike[str] | Mapping[str, Any] | Config | None) -> Config:
    """As :meth:`Config.load`, but what was given instead of its own file, or where there is none.

    :raises ConfigError: with every problem there is.
    """
    given = _GIVEN.get()
    if given is not None:
        # An application may be told of its file later than what was given was found: by gunicorn's -e and --chdir.
        meant = file_meant() if source is None else source
        if meant is None or _is_file_of(given, meant):
            return given
    return Config.load(source)


def _is_file_of(config: Config, source: str | os.PathLike[str] | Mapping[str, Any] | Config) -> bool:
    return isinstance(source, str | os.PathLike) and os.path.abspath(source) == str(config.file)
