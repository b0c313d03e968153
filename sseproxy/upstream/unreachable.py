"""What kept an upstream from answering at all, in words that name no address and no key."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

from requests.exceptions import ConnectTimeout, ReadTimeout, SSLError

from sseproxy.core.failure import UpstreamFailure
from sseproxy.upstream.connection import StaleConnection

if TYPE_CHECKING:
    from sseproxy.upstream.app import Timeout

log = logging.getLogger("sseproxy.upstream")


def failure_to_reach(error: Exception, timeout: Timeout) -> UpstreamFailure:
    """The failure that a client is told of."""
    if isinstance(error, ConnectTimeout):
        message = f"The upstream did not accept a connection within {timeout.connect:g} seconds."
        return UpstreamFailure(message, status=504, type="upstream_timeout", code="upstream_connect_timeout")
    if isinstance(error, (ReadTimeout, socket.timeout)):
        message = f"The upstream did not begin its answer within {timeout.first_byte:g} seconds."
        return UpstreamFailure(message, status=504, type="upstream_timeout", code="upstream_first_byte_timeout")
    if isinstance(error, SSLError):
        return UpstreamFailure("The upstream's TLS certificate was not accepted.", code="upstream_tls")
    reason = getattr(error.args[0] if error.args else error, "reason", error)
    log.warning("upstream unreachable: %s", type(reason).__name__)
    return UpstreamFailure("The upstream cannot be reached or closed the connection.", code="upstream_unreachable")


def is_stale(error: BaseException | None) -> bool:
    """Whether a kept connection turned out to be closed before a byte of the answer had come."""
    while error is not None and not isinstance(error, StaleConnection):
        error = error.__cause__ or error.__context__
    return error is not None
