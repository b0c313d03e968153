"""Addresses of stores on the network. What a driver would misread is refused: its error would show the password.

No message here repeats an address or a part of one.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qs, parse_qsl, urlsplit

from sseproxy.config.values import Expected

_ESCAPES: Final = "percent-encode what the password contains of / (%2F), @ (%40), # (%23), ? (%3F), [ (%5B) and ] (%5D)"
_WHOLE: Final = r"\d+"
_SECONDS: Final = r"\d+(\.\d+)?"
_SWITCH: Final = r"(?i)true|false|yes|no|1|0"
_ANY: Final = r".+"
# Options that redis-py takes from an address; one it does not know fails at every request, not at the start.
# https://redis.readthedocs.io/en/stable/connections.html#redis.Redis.from_url
_OPTIONS: Final = {
    "client_name": _ANY,
    "db": _WHOLE,
    "health_check_interval": _WHOLE,
    "max_connections": r"[1-9]\d*",
    "password": _ANY,
    "protocol": r"[23]",
    "retry_on_timeout": _SWITCH,
    "socket_connect_timeout": _SECONDS,
    "socket_read_size": r"[1-9]\d*",
    "socket_timeout": _SECONDS,
    "username": _ANY,
}
_OPTIONS_OF_TCP: Final = {"socket_keepalive": _SWITCH}
_OPTIONS_OF_TLS: Final = {
    "ssl_ca_certs": _ANY,
    "ssl_ca_data": r"(?s).+",
    "ssl_ca_path": _ANY,
    "ssl_cert_reqs": r"none|optional|required",
    "ssl_certfile": _ANY,
    "ssl_check_hostname": _SWITCH,
    "ssl_ciphers": _ANY,
    "ssl_keyfile": _ANY,
    "ssl_min_version": _WHOLE,
    "ssl_password": _ANY,
}
_OPTIONS_OF: Final = {
    "redis": _OPTIONS | _OPTIONS_OF_TCP,
    "rediss": _OPTIONS | _OPTIONS_OF_TCP | _OPTIONS_OF_TLS,
    "redis+unix": _OPTIONS,
}


def check_postgresql(address: str) -> None:
    """Refuse an address that SQLAlchemy or psycopg would misread.

    :raises Expected: it is one.
    """
    example = "postgresql://USER:PASSWORD@HOST:5432/NAME"
    parts = _split(address, example)
    if "@" in parts.path + parts.query:
        raise _misread(example)
    thresholds = parse_qs(parts.query, keep_blank_values=True).get("prepare_threshold", ())
    if len(thresholds) > 1 or not all(re.fullmatch(_WHOLE, value) for value in thresholds):
        raise Expected("expected a whole number as prepare_threshold, once; 0: no statement is prepared")


def check_redis(address: str) -> None:
    """Refuse an address that redis-py would misread.

    :raises Expected: it is one.
    """
    scheme = address.partition("://")[0]
    example = f"{scheme}://:PASSWORD@/run/redis.sock" if scheme == "redis+unix" else f"{scheme}://:PASSWORD@HOST:6379/0"
    parts = _split(address, example)
    if scheme != "redis+unix":
        if "@" in parts.path + parts.query:
            raise _misread(example)
        if not re.fullmatch(r"/?|/[0-9]+/?", parts.path):
            raise Expected(f"expected the number of a database at the end, such as /0; {_ESCAPES}")
    options = _OPTIONS_OF[scheme]
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in options or not re.fullmatch(options[name], value):
            raise Expected(f"expected options of Redis after the ?, with fitting values, of {', '.join(options)}")


def _split(address: str, example: str) -> SplitResult:
    """What comes after the scheme, in its parts."""
    try:
        parts = urlsplit("//" + address.partition("://")[2])
        port = parts.port
    except ValueError:
        raise _misread(example) from None
    user, _, host = parts.netloc.rpartition("@")
    if port == 0 or host.endswith(":") or re.search(r"[@\[\]]", user):
        raise _misread(example)
    if "#" in address or re.search(r"[\x00-\x1f\x7f]", address):
        raise _misread(example)
    return parts


def _misread(example: str) -> Expected:
    return Expected(f"expected an address such as {example}, with a port of 1 to 65535; {_ESCAPES}")
