"""What a running proxy cannot change: where it listens, and the stores that it has opened."""

from __future__ import annotations

from typing import Final

from sseproxy.config.config import Config

FIXED: Final = {
    "server": ("listen", "threads", "max_body", "shutdown_grace"),
    "accounting": ("ledger", "journal", "on_ledger_down"),
    "limits": ("store",),
    "streams": ("store", "keep", "keep_alone", "buffer", "client_timeout"),
    "metrics": ("enabled",),
    "tracing": ("enabled",),
}
"""By section, the keys that take effect at the next start only."""


def keep_fixed(running: Config, new: Config) -> tuple[Config, list[str]]:
    """``new``, but with what cannot change as in ``running``; and the dotted keys for which that is a difference."""
    kept: list[str] = []
    sections = {}
    for name, keys in FIXED.items():
        before, after = getattr(running, name), getattr(new, name)
        same = {key: getattr(before, key) for key in keys}
        kept += [f"{name}.{key}" for key in keys if same[key] != getattr(after, key)]
        sections[name] = after.model_copy(update=same)
    return new.model_copy(update=sections), kept
