"""The address that is examined: where to connect, and below which path the proxy is expected."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Target:
    """Scheme, host, port and path prefix (without a slash at its end)."""

    scheme: str
    host: str
    port: int
    prefix: str

    @classmethod
    def of(cls, url: str) -> Target:
        """From what a client has as its ``base_url``, with or without ``/v1``; ``http`` where no scheme is named.

        :raises ValueError: it is no such address; the message is for people.
        """
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an address such as https://llm.example.com or http://127.0.0.1:8080")
        if parts.username or parts.password:
            raise ValueError("expected an address without a password; the key goes to --key or $SSEPROXY_KEY")
        if not url.isprintable() or " " in url or not parts.path.isascii():
            raise ValueError("expected an address without blanks and letters outside of ASCII")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        prefix = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
        return cls(parts.scheme, parts.hostname, port, prefix)

    @property
    def url(self) -> str:
        """As a client's base address, without ``/v1``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (443 if self.scheme == "https" else 80)
        return f"{self.scheme}://{host}{'' if usual else f':{self.port}'}{self.prefix}"

    def parents(self) -> list[Target]:
        """The same with ever shorter prefixes."""
        parts = self.prefix.split("/")[1:]
        return [replace(self, prefix="".join(f"/{part}" for part in parts[:keep])) for keep in range(len(parts))][::-1]
