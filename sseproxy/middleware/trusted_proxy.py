"""``X-Forwarded-*`` is believed from the trusted proxy in front, and from nobody else.

https://werkzeug.palletsprojects.com/en/stable/middleware/proxy_fix/
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~%!$&'()*+,;=:@-]+)*")
"""A path, and not ``//host``."""
FORWARDED: Final = ("HTTP_X_FORWARDED_", "HTTP_FORWARDED")
"""Prefixes of the headers' names."""
MOST_NAMES: Final = 512
LONGEST_NAME: Final = 64


class TrustedProxyMiddleware:
    """The client's address, scheme, host and path prefix from ``X-Forwarded-*``, where the trusted peer sent them.

    From any other peer these headers go no further.

    :param proxy: an address or a network; None: there is no trusted peer.
    """

    def __init__(self, app: WSGIApplication, proxy: str | None) -> None:
        self.app = app
        self._network = ip_network(proxy) if proxy is not None else None
        self._harmless: set[str] = set()
        self._behind = ProxyFix(self._checked, x_for=1, x_proto=1, x_host=1, x_prefix=1)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._network is not None and _is_in(self._network, environ.get("REMOTE_ADDR", "")):
            return self._behind(environ, start_response)
        # Nearly all requests have the same names, which are known after the first few.
        if not environ.keys() <= self._harmless:
            environ = self._without_forwarded(environ)
        return self.app(environ, start_response)

    def _without_forwarded(self, environ: WSGIEnvironment) -> WSGIEnvironment:
        found = [name for name in environ if name.startswith(FORWARDED)]
        if found:
            return {name: value for name, value in environ.items() if name not in found}
        if len(self._harmless) + len(environ) <= MOST_NAMES and max(map(len, environ)) <= LONGEST_NAME:
            self._harmless.update(environ)
        return environ

    def _checked(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """A proxy may pass on what the client made up: impossible values are dropped."""
        before = environ["werkzeug.proxy_fix.orig"]
        if _address(environ.get("REMOTE_ADDR", "")) is None:
            environ["REMOTE_ADDR"] = before["REMOTE_ADDR"]
        if environ["wsgi.url_scheme"] not in ("http", "https"):
            environ["wsgi.url_scheme"] = before["wsgi.url_scheme"]
        if not PREFIX.fullmatch(environ.get("SCRIPT_NAME", "")):
            environ["SCRIPT_NAME"] = before["SCRIPT_NAME"] or ""
        return self.app(environ, start_response)


def _is_in(network: IPv4Network | IPv6Network, peer: str) -> bool:
    address = _address(peer)
    return address is not None and address in network


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address, or None. On a dual-stack socket an IPv4 client has an IPv6-mapped address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
