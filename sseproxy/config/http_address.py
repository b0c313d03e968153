"""Addresses of http:// and https:// as people write them. Says only whether they can be used."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def http_parts(address: str) -> SplitResult | None:
    """The parts of an address with a host and a port that can be, or none; None if this is no such address."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None
