"""Which header fields cross the proxy, in each direction (RFC 9110 section 7.6, RFC 9112).

End-to-end fields pass; hop-by-hop fields, credentials, cookies, what the proxy states itself, and on the way back what
steers a browser or a server in front do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from sseproxy.core.http_fields import HOP_BY_HOP, TOKEN

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

CREDENTIALS: Final = frozenset(
    ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "openai-organization", "openai-project"]
)
"""The client's own, or (organization, project) meaningful only together with the key they belong to."""

OWN_REQUEST: Final = frozenset(["host", "content-length", "accept", "accept-encoding", "expect", "x-request-id"])
"""Stated anew by the proxy on its way to the upstream."""

ADDRESSES: Final = frozenset(["forwarded", "via", "x-real-ip"])
_FORWARDED: Final = "x-forwarded-"
"""Where the client is: no business of the upstream's. Of ``X-Forwarded-…`` new ones keep being made up."""

OVERRIDES: Final = frozenset(
    [
        "x-forwarded-method",
        "x-forwarded-path",
        "x-forwarded-uri",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-method",
        "x-original-uri",
        "x-original-url",
        "x-override-url",
        "x-rewrite-url",
    ]
)
"""What an upstream or a server in front of it may take for the method or path, instead of those that were checked."""

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

OWN_RESPONSE: Final = frozenset(["set-cookie", "set-cookie2", "server", "date", "www-authenticate", "content-length"])
"""Between the upstream and the proxy only."""

STEERING: Final = frozenset(
    [
        "accept-ch",
        "alt-svc",
        "authentication-info",
        "clear-site-data",
        "content-location",
        "content-security-policy",
        "content-security-policy-report-only",
        "critical-ch",
        "document-policy",
        "edge-control",
        "expect-ct",
        "feature-policy",
        "http2-settings",
        "link",
        "location",
        "nel",
        "origin-agent-cluster",
        "origin-trial",
        "permissions-policy",
        "permissions-policy-report-only",
        "public-key-pins",
        "public-key-pins-report-only",
        "referrer-policy",
        "refresh",
        "report-to",
        "reporting-endpoints",
        "service-worker-allowed",
        "set-login",
        "sourcemap",
        "speculation-rules",
        "status",
        "strict-transport-security",
        "supports-loading-mode",
        "surrogate-control",
        "timing-allow-origin",
        "use-as-dictionary",
        "x-dns-prefetch-control",
        "x-frame-options",
        "x-permitted-cross-domain-policies",
        "x-sourcemap",
        "x-ua-compatible",
        "x-xss-protection",
    ]
)
STEERING_FAMILIES: Final = (
    "access-control-",
    "attribution-reporting-",
    "cross-origin-",
    "sec-",
    "x-accel-",
    "x-lighttpd-",
    "x-litespeed-",
    "x-reproxy-",
    "x-sendfile",
)
"""By their beginnings. What a browser or a server in front obeys is no business of an LLM API: by ``X-Accel-Redirect``
nginx sends a client files of its own site, and llama.cpp's server allows every page by CORS, with credentials.
"""

OF_A_STRANGER: Final = (
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
    ("X-Content-Type-Options", "nosniff"),
)
"""Of an answer that is handed on as it is, and may be a page that another user has uploaded: a browser that is led to
it runs nothing of it (https://www.w3.org/TR/CSP3/#directive-sandbox)."""

_OF_CDNS: Final = "cdn-cache-control"
"""How the fields end that CDNs obey before ``Cache-Control`` (RFC 9213): their own, with their names in front."""

ANSWERED_HERE: Final = frozenset(["idempotency-key", "last-event-id", "prefer"])
"""What the proxy does itself. To an upstream, all users are one: two that choose the same key would share an answer."""

NOT_SENT: Final = ANSWERED_HERE | HOP_BY_HOP | CREDENTIALS | OWN_REQUEST | ADDRESSES | OVERRIDES | BROWSER
_NOT_RECEIVED: Final = HOP_BY_HOP | OWN_RESPONSE | STEERING
_SHARED: Final = frozenset(["private", "public", "s-maxage"])
_DIRECTIVE: Final = re.compile(r'(?:[^,"]|"[^"]*")+')
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
MOST_KEYS: Final = 100
"""Of an environ of which it is remembered which go on."""


def request_headers(environ: WSGIEnvironment, own: frozenset[str] = frozenset()) -> dict[str, str]:
    """The header fields of the client's to send on: the end-to-end ones.

    :param own: names, in lower case, of those that the proxy writes itself.
    """
    passing = _passing if len(environ) <= MOST_KEYS else _passing.__wrapped__
    names, keys = passing(tuple(environ), environ.get("HTTP_CONNECTION", ""), own)
    headers = dict(zip(names, map(environ.__getitem__, keys), strict=True))
    if not environ.get("CONTENT_TYPE"):  # which servers may set where there is none
        headers.pop("content-type", None)
    return headers


@lru_cache(maxsize=64)
def _passing(keys: tuple[str, ...], connection: str, own: frozenset[str]) -> tuple[list[str], list[str]]:
    """Under which names values of an environ go on, and those of which keys. The requests of one client have the same
    keys, and no value is looked at here but that of ``Connection``.
    """
    kept_back = NOT_SENT | own | _listed(connection)
    named = {key[5:].replace("_", "-").lower(): key for key in keys if key.startswith("HTTP_")}
    if "CONTENT_TYPE" in keys:
        named["content-type"] = "CONTENT_TYPE"
    names = [name for name in named if name not in kept_back and not name.startswith(_FORWARDED)]
    return names, [named[name] for name in names]


def response_headers(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The header fields of an upstream's answer that a client may see: no malformed ones (RFC 9110 section 5.5).

    One says that it is its client's alone, for a shared cache may keep what says nothing (RFC 9111 section 3.5).
    """
    passed = []
    listed: set[str] = set()
    for item in fields:
        known = _received(item[0])
        if known == "connection":
            listed |= _listed(item[1])
        elif known == "cache-control":
            passed.append((item[0], _private(item[1])))
        elif known:
            passed.append(item)
    if not listed <= _NOT_RECEIVED:
        passed = [item for item in passed if item[0].lower() not in listed]
    values = "".join([value for _, value in passed])
    if not (values.isascii() and values.isprintable()):
        passed = [item for item in passed if _VALUE.fullmatch(item[1])]
    if not any(name.lower() == "cache-control" for name, _ in passed):
        passed.append(("Cache-Control", "private"))
    return passed


@lru_cache(maxsize=256)
def _received(name: str) -> str:
    """The lower-case name of a field that a client may see, or that says which it may; empty for others."""
    known = name.lower()
    if known == "connection":
        return known
    steers = known.startswith(STEERING_FAMILIES) or known.endswith(_OF_CDNS)
    return known if known not in _NOT_RECEIVED and not steers and TOKEN.fullmatch(name) else ""


def _private(directives: str) -> str:
    """The same, for its client alone: to the upstream, all users are one."""
    given = [each.strip() for each in _DIRECTIVE.findall(directives)]
    kept = [each for each in given if each and each.partition("=")[0].lower() not in _SHARED]
    return ", ".join(["private", *kept])


@lru_cache(maxsize=16)
def _listed(connection: str) -> frozenset[str]:
    """The fields a ``Connection`` header names as hop-by-hop too (RFC 9110 section 7.6.1)."""
    return frozenset(name.strip().lower() for name in connection.split(","))
