"""Where a configuration is read from: at the start, and again while it is in use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sseproxy.config.config import EMPTY, Config
from sseproxy.config.given import load_or_given
from sseproxy.config.problem import ConfigError, Problem


class Origin:
    """A source as :meth:`Config.load` takes it. The file that was found stays the one, wherever and whatever else is.

    Looked for anew, without the file or from another directory, it might be the demo, whose key everybody knows.
    """

    def __init__(self, source: str | os.PathLike[str] | Mapping[str, Any] | Config | None) -> None:
        self._source = source

    def load(self) -> Config:
        """Read and check it, as it is now.

        :raises ConfigError: with every problem there is.
        """
        config = load_or_given(self._source)
        if config is not self._source and config.file is not None:
            self._source = config.file
        return config

    def load_again(self) -> Config:
        """As :meth:`load`, for what is in use: a file with nothing in it was cut off by an editor or a full disk.

        :raises ConfigError: with every problem there is.
        """
        config = self.load()
        if config.is_empty:
            raise ConfigError([Problem(config.source, None, "", EMPTY)])
        return config
