"""What kept an upstream from answering at all, in words that name no address and no key."""

from __future__ import annotations

import logging
import ssl
from http.client import HTTPException
from typing import TYPE_CHECKING, Final

from urllib3.exceptions import HTTPError, SSLError

from sseproxy.core.failure import UpstreamFailure
from sseproxy.upstream.dialer import ConnectTimeout
from sseproxy.upstream.head import BadHead

if TYPE_CHECKING:
    from sseproxy.upstream.app import Timeout

log = logging.getLogger("sseproxy.upstream")

UNREACHABLE: Final = (OSError, HTTPError, HTTPException, BadHead)
"""What may be raised before an answer has begun; urllib3 and http.client do so while they connect."""


def failure_to_reach(error: Exception, timeout: Timeout, url: str) -> UpstreamFailure:
    """The failure that a client is told of; the log is told the cause.

    :param url: the upstream's, for the log.
    """
    if isinstance(error, ConnectTimeout):
        message = f"The upstream did not accept a connection within {timeout.connect:g} seconds."
        return UpstreamFailure(message, status=504, type="upstream_timeout", code="upstream_connect_timeout")
    if isinstance(error, TimeoutError):
        message = f"The upstream did not begin its answer within {timeout.first_byte:g} seconds."
        return UpstreamFailure(message, status=504, type="upstream_timeout", code="upstream_first_byte_timeout")
    if isinstance(error, ssl.SSLError | SSLError):
        log.warning("no TLS with %s: %s", url, error)
        if isinstance(error, ssl.SSLCertVerificationError):
            return UpstreamFailure("The upstream's TLS certificate was not accepted.", code="upstream_tls")
        return UpstreamFailure("The upstream did not come to terms on TLS.", code="upstream_tls")
    log.warning("%s cannot be reached: %s", url, error if isinstance(error, OSError) else type(error).__name__)
    return UpstreamFailure("The upstream cannot be reached or closed the connection.", code="upstream_unreachable")
