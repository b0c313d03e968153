"""What ended an upstream's answer before its end, in words that name no address."""

from __future__ import annotations

from sseproxy.core.failure import UpstreamFailure


def broken(error: OSError) -> UpstreamFailure:
    """The connection failed."""
    return truncated(f"the connection broke: {error.strerror or error}")


def truncated(reason: str) -> UpstreamFailure:
    """It ended before it said so."""
    return UpstreamFailure(
        f"The upstream broke off its answer: {reason}.", type="upstream_truncated", code="upstream_truncated"
    )


def timed_out(which: str, reason: str) -> UpstreamFailure:
    """It took too long.

    :param which: of the time-outs.
    """
    return UpstreamFailure(
        f"The upstream did not finish its answer: {reason}.",
        status=504,
        type="upstream_timeout",
        code=f"upstream_{which}_timeout",
    )
