"""What a server adds to the metrics: requests that wait for a thread, and a place where its processes count together.

Nothing here is imported by a master process before its workers have forked that they would have to patch first.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sseproxy.config import Config

log = logging.getLogger("sseproxy.metrics")

DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def counted_queue(config: Config, length: Callable[[], int]) -> Iterator[None]:
    """Let the metrics tell how many requests wait for a thread of this process."""
    if not config.metrics.enabled:
        yield
        return
    from sseproxy.metrics import instruments

    unwatch = instruments().watch(instruments().queue, length)
    try:
        yield
    finally:
        unwatch()


def count_waiting(config: Config, worker: Any) -> None:
    """Let the metrics tell how many requests wait for a thread of this worker; greenlets wait for none."""
    queue = getattr(getattr(worker, "tpool", None), "_work_queue", None)
    length = getattr(queue, "qsize", None) or getattr(worker, "waiting", None)
    if length is not None and config.metrics.enabled:
        from sseproxy.metrics import instruments

        instruments().watch(instruments().queue, length)


def share_counts(config: Config) -> str | None:
    """Let processes that are forked from now on count together; the fresh directory for it, which is to be removed.

    None if there is none: the environment names one, or nothing is to be counted.
    """
    if not config.metrics.enabled or os.environ.get(DIRECTORY):
        return None
    from sseproxy.server import counts_directory

    try:
        os.environ[DIRECTORY] = directory = counts_directory.make()
    except OSError as error:
        log.warning("each process tells only its own metrics, for want of a directory: %s", error.strerror)
        return None
    return directory


@contextmanager
def shared_counts(config: Config) -> Iterator[None]:
    """Let processes that are forked inside count together."""
    process = os.getpid()
    directory = share_counts(config)
    try:
        yield
    finally:
        if directory is not None and os.getpid() == process:  # a worker ends here too, after its fork
            os.environ.pop(DIRECTORY, None)
            shutil.rmtree(directory, ignore_errors=True)


def forget_process(number: int) -> None:
    """Drop what only a running process has: its gauges. What it counted stays in the sums.

    As ``prometheus_client.multiprocess.mark_process_dead``, but without importing half of the standard library into a
    master whose next worker may be one of gevent's.
    """
    if directory := os.environ.get(DIRECTORY):
        for file in Path(directory).glob(f"gauge_live*_{number}.db"):
            file.unlink(missing_ok=True)
