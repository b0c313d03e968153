"""gunicorn's messages on unreadable requests, without quotes from these: a header line without a colon may be a key."""

from __future__ import annotations

import logging
import sys


def quote_nothing(record: logging.LogRecord) -> bool:
    """A logging filter: removes what a client sent from gunicorn's messages."""
    if record.args and "Error handling request" in record.msg:
        record.msg, record.args = "Error handling request", None
    error = sys.exc_info()[1]
    if error is not None and type(error).__module__ == "gunicorn.http.errors":
        words = record.getMessage().replace(str(error), "").rstrip()
        record.msg, record.args, record.exc_info = f"{words} {type(error).__name__}", None, None
    return True
