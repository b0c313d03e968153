"""Auth, prompt prefix, exact bills and clean event streams between LLM clients and any OpenAI-compatible upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sseproxy._version import __version__

if TYPE_CHECKING:
    from sseproxy.app import SSEProxyMiddleware, create_app
    from sseproxy.config import Config, ConfigError

__all__ = ["Config", "ConfigError", "SSEProxyMiddleware", "__version__", "create_app"]

_HOMES = {
    "Config": "sseproxy.config",
    "ConfigError": "sseproxy.config",
    "SSEProxyMiddleware": "sseproxy.app",
    "create_app": "sseproxy.app",
}


def __getattr__(name: str) -> Any:
    """Import on first use (PEP 562): a command that checks a file does not load a database toolkit."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sseproxy' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
