"""Log records that differ only in text and time: copying one takes a fifth of the time of making one."""

from __future__ import annotations

import logging
import os
from time import time
from typing import Final

_ANY: Final = logging.LogRecord("", logging.INFO, __file__, 0, "", (), None)
_ANY.thread = _ANY.threadName = _ANY.processName = None


def access_record(log: logging.Logger, text: str) -> logging.LogRecord:
    """The record that ``log.info()`` would make, without the caller's position, for which it would walk the stack."""
    if logging.logThreads or logging.logMultiprocessing or logging.getLogRecordFactory() is not logging.LogRecord:
        # Their other fields differ between records.
        return log.makeRecord(log.name, logging.INFO, __file__, 0, text, (), None)
    now = time()
    record = logging.LogRecord.__new__(logging.LogRecord)
    record.__dict__.update(
        _ANY.__dict__,
        name=log.name,
        msg=text,
        created=now,
        msecs=float(int((now - int(now)) * 1000)),
        relativeCreated=_ANY.relativeCreated + (now - _ANY.created) * 1000,
        process=os.getpid() if logging.logProcesses else None,
    )
    return record
