"""For a gunicorn.conf.py: what ``sseproxy serve --server gunicorn`` does, where gunicorn is started by its own command.

``globals().update(settings())``. What the file says below that, or the command line, wins; a hook in place of one of
these has to call it.
"""

from __future__ import annotations

from typing import Any

from sseproxy import hangup


def settings() -> dict[str, Any]:
    """gunicorn's settings and hooks, for the configuration that ``sseproxy serve`` would find; the log is set up too.

    :raises ConfigError: with every problem of the configuration.
    """
    hangup.note()
    # Imported only now: SIGHUP ends the process until it is noted.
    from sseproxy.server.gunicorn_command import command_settings

    return command_settings()
