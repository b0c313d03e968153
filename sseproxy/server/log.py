"""Where log records go when the proxy is a process of its own: standard error, one line each, as text or JSON.

An application that wraps itself in the middleware sets up its own logging.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any

ACCESS = "sseproxy.access"


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
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(format: str, level: str) -> None:
    """Send every record of at least ``level`` to standard error, as ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JSONFormatter() if format == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # At "info" waitress tells of each client that left, which the access log does with the bill; Alembic of itself.
    for name in ("waitress", "alembic"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
