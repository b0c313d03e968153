"""Where log records go when the proxy is a process of its own: standard error, one line each, as text or JSON.

An application that wraps itself in the middleware sets up its own logging.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import datetime, timezone
from typing import Any

from sseproxy.config import Config
from sseproxy.server.standard_error import StandardError

ACCESS = "sseproxy.access"


class TextFormatter(logging.Formatter):
    """One line for a message, whatever is in it; only a traceback has more, and those are indented."""

    _last: tuple[int, str] = (-1, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        second, text = self._last
        if second != int(record.created):  # asking for the local time may ask the operating system
            second, text = int(record.created), time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
            self._last = second, text
        return f"{text},{int(record.msecs):03d}"

    def formatMessage(self, record: logging.LogRecord) -> str:
        return in_one_line(f"{self.formatTime(record)} {record.levelname:<7} {record.name}: {record.getMessage()}")

    def format(self, record: logging.LogRecord) -> str:
        is_plain = not (record.exc_info or record.exc_text or record.stack_info)
        return self.formatMessage(record) if is_plain else super().format(record)

    def formatException(self, ei: Any) -> str:
        return "  " + super().formatException(ei).replace("\n", "\n  ")


def in_one_line(text: str) -> str:
    """The text with what would end a line or steer a terminal written as Python does."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


class JSONFormatter(logging.Formatter):
    """One JSON object per record; an access record, which is an object already, gets time and level."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        message = record.getMessage()
        if record.name == ACCESS and message.startswith("{"):
            line |= json.loads(message)
        else:
            line |= {"logger": record.name, "message": message}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(format: str, level: str) -> None:
    """Send every record of at least ``level`` to standard error, as ``text`` or ``json``."""
    handler = StandardError()
    handler.setFormatter(JSONFormatter() if format == "json" else TextFormatter())
    # Nobody is told of them, and each record would look them up: https://docs.python.org/3/howto/logging.html#optimization
    logging.logThreads = logging.logMultiprocessing = False
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # At "info" waitress tells of each client that left, which the access log does with the bill; Alembic of itself.
    # At "debug" urllib3 tells addresses with their query.
    for name in ("waitress", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def log_warnings(config: Config) -> None:
    """What works in a configuration, but should not stay."""
    for warning in config.warnings:
        logging.getLogger("sseproxy.config").warning("%s", warning)
