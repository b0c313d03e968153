"""What a refusal says in the words of the API that was asked: Anthropic's on its paths, OpenAI's on all others. No I/O.

https://docs.anthropic.com/en/api/errors
"""

from __future__ import annotations

from typing import Any, Final

from sseproxy.core.chat import api_at
from sseproxy.core.failure import Failure, UpstreamFailure

_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def refusal_at(path: str, failure: Failure, request_id: str = "") -> dict[str, Any]:
    """The body that tells a client at this path of a failure.

    :param request_id: the request's name here, if the upstream gave it none.
    """
    if api_at(path) != "messages":
        return failure.as_json()
    body = error_of_messages(failure)
    request_id = failure.request_id or request_id
    return {**body, "request_id": request_id} if request_id else body


def error_of_messages(failure: Failure) -> dict[str, Any]:
    """Anthropic's form of a failure, with OpenAI's members beside its own."""
    return {"type": "error", "error": {**failure.as_json()["error"], "type": _type_of(failure)}}


def _type_of(failure: Failure) -> str:
    """Anthropic's for the status; an upstream's own, where it gave one, stays what it is."""
    if isinstance(failure, UpstreamFailure) and not failure.type.startswith("upstream_"):
        return failure.type
    return _TYPES.get(failure.status, "invalid_request_error" if failure.status < 500 else "api_error")
