"""Which header fields cross the proxy, in each direction (RFC 9110 section 7.6, RFC 9112).

End-to-end fields pass; hop-by-hop fields, credentials, cookies and what the proxy states itself do not.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from sseproxy.upstream.head import TOKEN

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

HOP_BY_HOP: Final = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
CREDENTIALS: Final = frozenset(
    ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "openai-organization", "openai-project"]
)
"""The client's own, or (organization, project) meaningful only together with the key they belong to."""

OWN_REQUEST: Final = frozenset(["host", "content-length", "accept", "accept-encoding", "expect", "x-request-id"])
"""Stated anew by the proxy on its way to the upstream."""

ADDRESSES: Final = frozenset(
    [
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-real-ip",
    ]
)
"""Where the client is: no business of the upstream's."""

BROWSER: Final = frozenset(
    [
        "origin",
        "referer",
        "sec-fetch-site",
        "sec-fetch-mode",
        "sec-fetch-dest",
        "sec-fetch-user",
        "access-control-request-method",
        "access-control-request-headers",
    ]
)
"""Which page asks: settled between the browser and the proxy. Ollama and Anthropic refuse origins they do not know."""

OWN_RESPONSE: Final = frozenset(
    ["set-cookie", "server", "date", "www-authenticate", "strict-transport-security", "alt-svc", "content-length"]
)
"""Between the upstream and the proxy only. So is CORS: llama.cpp's server allows every page, with credentials."""

ANSWERED_HERE: Final = frozenset(["idempotency-key", "last-event-id", "prefer"])
"""What the proxy does itself. To an upstream, all users are one: two that choose the same key would share an answer."""

NOT_SENT: Final = ANSWERED_HERE | HOP_BY_HOP | CREDENTIALS | OWN_REQUEST | ADDRESSES | BROWSER
_KEYS_NOT_SENT: Final = frozenset(f"HTTP_{name.upper().replace('-', '_')}" for name in NOT_SENT) | {
    *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH", "SERVER_NAME"),
    *("SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE", "REMOTE_ADDR", "REMOTE_HOST", "REMOTE_PORT", "REQUEST_URI"),
    *("wsgi.version", "wsgi.url_scheme", "wsgi.input", "wsgi.input_terminated", "wsgi.errors", "wsgi.file_wrapper"),
    *("wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once", "sseproxy.exchange"),
}
"""As servers spell them, and what else stands in an environ (PEP 3333): found here, most of it is not looked into."""
_NOT_RECEIVED: Final = HOP_BY_HOP | OWN_RESPONSE
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def request_headers(environ: WSGIEnvironment, own: Mapping[str, str], elsewhere: Container[str] = ()) -> dict[str, str]:
    """The header fields to send on: the proxy's own, which win, then the client's end-to-end fields.

    :param own: with names in lower case.
    :param elsewhere: names of further ones of the proxy's own, which are written elsewhere.
    """
    listed = _listed(environ.get("HTTP_CONNECTION", ""))
    headers = dict(own)
    for key, value in environ.items():
        if key not in _KEYS_NOT_SENT and key.startswith("HTTP_"):
            name = key[5:].replace("_", "-").lower()
            if not (name in NOT_SENT or name in own or name in elsewhere or name in listed):
                headers[name] = value
    name = "content-type"
    if environ.get("CONTENT_TYPE") and not (name in own or name in elsewhere or name in listed):
        headers[name] = environ["CONTENT_TYPE"]
    return headers


def response_headers(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The header fields of an upstream's answer that a client may see: no malformed ones (RFC 9110 section 5.5)."""
    passed = []
    listed: set[str] = set()
    for item in fields:
        known = _received(item[0])
        if known == "connection":
            listed |= _listed(item[1])
        elif known:
            passed.append(item)
    if not listed <= _NOT_RECEIVED:
        passed = [item for item in passed if item[0].lower() not in listed]
    values = "".join([value for _, value in passed])
    if values.isascii() and values.isprintable():
        return passed
    return [item for item in passed if _VALUE.fullmatch(item[1])]


@lru_cache(maxsize=256)
def _received(name: str) -> str:
    """The lower-case name of a field that a client may see, or that says which it may; empty for others."""
    known = name.lower()
    if known == "connection":
        return known
    passes = known not in _NOT_RECEIVED and not known.startswith("access-control-") and TOKEN.fullmatch(name)
    return known if passes else ""


@lru_cache(maxsize=16)
def _listed(connection: str) -> frozenset[str]:
    """The fields a ``Connection`` header names as hop-by-hop too (RFC 9110 section 7.6.1)."""
    return frozenset(name.strip().lower() for name in connection.split(","))
