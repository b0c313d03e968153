"""What went wrong in one exchange, in the words the client will read. No I/O, no WSGI."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sseproxy.core.usage import Usage


class Failure(Exception):
    """A request or an answer that failed.

    Becomes the JSON error body while the headers are unsent (:attr:`status`), and an error event after that.

    * ``Failure``
      + raised by the proxy itself: see :mod:`sseproxy.wsgi.errors`
      + raised by an upstream or by its stream: :class:`UpstreamFailure`

    :param message: for people: what was wrong, what was expected, what to do. Never contains a secret.
    :param status: HTTP status, used if nothing was sent yet.
    :param type: OpenAI's ``error.type``.
    :param code: OpenAI's ``error.code``; machine-readable.
    :param param: the request field at fault, if one is.
    :param retry_after: seconds after which the same request may succeed, if that is known; infinite: never.
    :ivar usage: what the vendor says it took all the same; of a refusal only what it cost.
    :ivar request_id: the upstream's name for the request, where its error body has one.
    :ivar further: what else the upstream says of it, in fields of its own; the client gets them too.
    """

    usage: Usage | None = None
    request_id: str = ""
    further: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        message: str,
        *,
        status: int = 500,
        type: str = "server_error",
        code: str | int | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.code = code
        self.param = param
        self.retry_after = retry_after

    def as_json(self) -> dict[str, Any]:
        """OpenAI's error body, ``{"error": {message, type, param, code, …}}``."""
        said = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": {**said, **self.further}}


class UpstreamFailure(Failure):
    """The upstream refused, broke off, fell silent or sent what is no answer."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        type: str = "upstream_error",
        code: str | int | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, status=status, type=type, code=code, param=param)
