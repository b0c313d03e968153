"""Requests by a host name that is not this service's: https://en.wikipedia.org/wiki/DNS_rebinding

A web page may point its own name at any address its visitors can reach. For their browsers it is then of one origin
with what answers there, and asks and reads as it likes where no credentials are needed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from sseproxy.core.failure import Failure
from sseproxy.wsgi.errors import refuse

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PORT: Final = re.compile(r":\d*\Z")


class HostsMiddleware:
    """Refuses what asks for another host. Addresses and ``localhost`` may always be asked for: nobody can point them.

    :param allowed: names in small letters, and ``*.example.com`` for all below one.
    """

    def __init__(self, app: WSGIApplication, allowed: Collection[str]) -> None:
        self.app = app
        self._names = frozenset(allowed) | {"", "localhost"}  # every browser names a host
        self._ends = (".localhost", *(name[1:] for name in allowed if name.startswith("*.")))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = _PORT.sub("", environ.get("HTTP_HOST", "")).lower().removesuffix(".")
        if host in self._names or host.endswith(self._ends) or _is_address(host):
            return self.app(environ, start_response)
        return refuse(_not_allowed(), environ)(environ, start_response)


def _is_address(host: str) -> bool:
    try:
        ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _not_allowed() -> Failure:
    message = "The host name of this request does not stand in the configuration's server.allowed_hosts."
    return Failure(message, status=403, type="permission_error", code="host_not_allowed")
