"""Opens connections to an upstream: directly or through an HTTP proxy, with TLS where its URL says so.

urllib3 connects; what is sent and received then is not its matter any more.
"""

from __future__ import annotations

import math
import socket
import ssl
from contextlib import ExitStack
from functools import cached_property
from time import monotonic
from typing import Any, Final
from urllib.parse import unquote

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.util import Url, make_headers, parse_url
from urllib3.util.connection import allowed_gai_family
from urllib3.util.ssl_ import create_urllib3_context

from sseproxy.wsgi.cutting import cutting

_PORTS: Final = {"http": 80, "https": 443}


LEAST_SHARE: Final = 1.0
"""Seconds that each address of a name has, however many there are: less is too little for a distant one."""


class ConnectTimeout(OSError):
    """Nobody accepted the connection in time."""


class Dialer:
    """The way to one upstream.

    No proxy from the environment, no ``.netrc``: only what is configured.

    :param url: its base URL.
    :param proxy: URL of the HTTP proxy to go through.
    :param ca_file: certificates to trust instead of certifi's.
    :ivar host: what stands in ``Host``.
    :ivar path: of the base URL, without a slash at its end.
    :ivar prefix: what stands before the path in a request line; a proxy that is no tunnel is told the whole address.
    :ivar fields: further header fields, for such a proxy.
    :raises ValueError: a URL cannot be used.
    """

    def __init__(self, url: str, proxy: str | None = None, ca_file: str | None = None) -> None:
        self._url = _parse(url)
        self._proxy = _parse(proxy) if proxy else None
        self._ca_file = ca_file or DEFAULT_CA_BUNDLE_PATH
        self.host = _authority(self._url)
        self.path = (self._url.path or "").rstrip("/")
        is_told_all = self._proxy is not None and self._url.scheme == "http"
        self.prefix = f"http://{self.host}" if is_told_all else ""
        self.fields = self._credentials() if is_told_all else {}

    def dial(self, timeout: float) -> socket.socket:
        """A new connection.

        :param timeout: seconds in all, from the name's addresses on.
        :raises ConnectTimeout: it took too long.
        :raises OSError: or urllib3's or http.client's own error: it did not come about.
        """
        connection = self._connection(timeout)
        try:
            connection.connect()
        except BaseException as error:
            is_proxy_s = self._proxy is not None and not connection.has_connected_to_proxy
            connection.close()
            if isinstance(error, TimeoutError) or (isinstance(error, Exception) and connection.is_late()):
                raise ConnectTimeout("not connected in time") from error
            if is_proxy_s and isinstance(error, ssl.SSLError):
                raise ConnectionError("the proxy's certificate was not accepted") from error
            raise
        return connection.sock

    def _connection(self, timeout: float) -> _Connecting:
        settings: dict[str, Any] = {"timeout": timeout}
        if self._url.scheme == "https":
            settings["ssl_context"] = self._tls
        if self._proxy is None:
            return _KINDS[self._url.scheme](*_address(self._url), **settings)
        settings |= {"proxy": self._proxy, "proxy_config": ProxyConfig(None, False, None, None)}
        if self._url.scheme == "http":
            return _KINDS[self._proxy.scheme](*_address(self._proxy), **settings)
        connection = _ConnectingByTLS(*_address(self._proxy), **settings)
        connection.set_tunnel(*_address(self._url), self._credentials(), scheme=self._proxy.scheme or "")
        return connection

    def _credentials(self) -> dict[str, str]:
        if self._proxy is None or not self._proxy.auth:
            return {}
        user, _, password = self._proxy.auth.partition(":")
        fields = make_headers(proxy_basic_auth=f"{unquote(user)}:{unquote(password)}")
        return {"Proxy-Authorization": fields["proxy-authorization"]}

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """One context for all connections, since loading the certificates takes 20 ms."""
        context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
        context.load_verify_locations(self._ca_file)
        return context


class _Connecting(HTTPConnection):
    """What urllib3 connects, but all addresses of a name have one time-out together: each an even share of what is left
    by then, but :data:`LEAST_SHARE` where there is as much, and TLS the rest.
    """

    _deadline = math.inf

    def is_late(self) -> bool:
        """Whether the time is over."""
        return monotonic() >= self._deadline

    def _new_conn(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, allowed_gai_family(), socket.SOCK_STREAM)
        except UnicodeError as error:
            raise OSError("this cannot be the name of a host") from error
        assert self.timeout is not None
        self._deadline = deadline = monotonic() + self.timeout
        while True:
            family, kind, protocol, _, address = found.pop(0)
            try:
                return self._connect(socket.socket(family, kind, protocol), address, deadline, len(found) + 1)
            except OSError:
                if not found:
                    raise

    def _connect(self, connection: socket.socket, address: Any, deadline: float, shares: int) -> socket.socket:
        try:
            left = _left(deadline)
            connection.settimeout(max(left / shares, min(left, LEAST_SHARE)))
            for option in self.socket_options or ():
                connection.setsockopt(*option)
            connection.connect(address)
            connection.settimeout(_left(deadline))
        except BaseException:
            connection.close()
            raise
        return connection


class _ConnectingByTLS(_Connecting, HTTPSConnection):
    """The same time is that of all that is said until the connection can be used, by a proxy too, however it drips."""

    def connect(self) -> None:
        with ExitStack() as self._cuts:
            super().connect()
        _left(self._deadline)

    def _connect(self, connection: socket.socket, address: Any, deadline: float, shares: int) -> socket.socket:
        connected = super()._connect(connection, address, deadline, shares)
        self._cuts.enter_context(cutting(connected, deadline))
        return connected


_KINDS: Final[dict[str | None, type[_Connecting]]] = {"http": _Connecting, "https": _ConnectingByTLS}


def _left(deadline: float) -> float:
    if (left := deadline - monotonic()) <= 0:
        raise TimeoutError("not connected in time")
    return left


def _parse(url: str) -> Url:
    parsed = parse_url(url)
    if parsed.scheme not in _KINDS or not parsed.host:
        raise ValueError("expected an http:// or https:// URL")
    return parsed


def _address(url: Url) -> tuple[str, int]:
    assert url.host is not None
    return url.host.strip("[]"), url.port or _PORTS[url.scheme or ""]


def _authority(url: Url) -> str:
    return f"{url.host}:{url.port}" if url.port and url.port != _PORTS[url.scheme or ""] else str(url.host)
