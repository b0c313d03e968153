"""The books, before gunicorn's workers open them."""

from __future__ import annotations

import os

from sseproxy.config import Config


def migrate_books(config: Config) -> None:
    """Bring books that are there to this version, however long it takes; what is in the way of it, workers will say.

    They are not to do so: on SQLite all but one would give up, and gunicorn ends one that begins for too long. Done in
    a process of its own: no connection gets into a worker, nor any module before gevent patches what it imports.
    """
    process = os.fork()
    if process:
        os.waitpid(process, 0)
        return
    try:
        from sseproxy.ledger.opening import migrate

        migrate(config.accounting.ledger.get_secret_value())
    finally:
        os._exit(0)
