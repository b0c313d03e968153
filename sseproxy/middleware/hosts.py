"""Host names that are not this service's: a defence against https://en.wikipedia.org/wiki/DNS_rebinding

A web page may point its own name at any address its visitors can reach. Their browsers then take both for the same
origin, so where no credentials are needed the page may send requests and read the answers.
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
    """Refuses requests for other hosts. IP addresses and ``localhost`` are always allowed: no DNS entry can redirect
    them.

    :param allowed: names in lower case, and ``*.example.com`` for all subdomains of one.
    """

    def __init__(self, app: WSGIApplication, allowed: Collection[str]) -> None:
        self.app = app
        self._names = frozenset(allowed) | {"", "localhost"}  # empty: sent by no browser
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
