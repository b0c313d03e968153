"""The body field ``demo``: length, pace and one fault of an answer, chosen by the request. No I/O, no WSGI.

``{"tokens": N, "interval_ms": N, "fault": F, "after": N, "status": S, "message": T, "retry_after": N}``, all optional:
``tokens`` output tokens per choice instead of the essay's own length (then ``max_tokens`` still applies);
``interval_ms`` between two tokens, 40 unless given, 0 as fast as it goes. `F`, from the token number `after` on:

* ``cut``: the connection breaks; ``hang``: nothing more comes, no end either; ``error``: an error event, then the end;
* ``no_usage``: usage is never told; ``no_done``: it ends without its end mark; ``status``: refused with `status`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sseproxy.core.failure import Failure

KINDS: Final = ("cut", "error", "hang", "no_done", "no_usage", "status")
HUMAN_PACE_MS: Final = 40
"""Milliseconds between two tokens: 25 tokens a second, a little faster than one reads."""


@dataclass(frozen=True)
class Script:
    """What the request asked of the demo itself."""

    tokens: int | None = None
    interval_ms: int = HUMAN_PACE_MS
    fault: str | None = None
    after: int = 0
    status: int = 500
    message: str = "the demo was asked to fail"
    retry_after: int | None = None


def read_script(body: Mapping[str, Any]) -> Script:
    """The field ``demo`` of a request.

    :raises Failure: status 400, if it holds anything that is not described above.
    """
    given = body.get("demo")
    if given is None:
        return Script()
    if not isinstance(given, dict):
        raise bad_request("demo must be an object", "demo")
    for name, value in given.items():
        _check(name, value)
    return Script(**given)


def bad_request(message: str, param: str | None) -> Failure:
    """OpenAI's refusal of a body."""
    return Failure(message, status=400, type="invalid_request_error", param=param)


def _check(name: str, value: object) -> None:
    param = f"demo.{name}"
    if name == "fault":
        if value is not None and value not in KINDS:
            raise bad_request(f"{param} must be one of {', '.join(KINDS)}", param)
    elif name == "message":
        if not isinstance(value, str):
            raise bad_request(f"{param} must be a string", param)
    elif name not in Script.__dataclass_fields__:
        raise bad_request(f"{param} is unknown; known are {', '.join(Script.__dataclass_fields__)}", param)
    elif not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1_000_000:
        raise bad_request(f"{param} must be an integer from 0 to 1000000", param)
    elif name == "status" and not 400 <= value <= 599:
        raise bad_request(f"{param} must be from 400 to 599", param)
