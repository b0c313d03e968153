"""What was tried for one request: each time it went to an upstream, and how that ended. No I/O, no policy.

The last one that ended without an error is the answer; the charge's tokens are those of that one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

KNOWN: Final = frozenset(
    (
        "answer_too_large",
        "app_failed",
        "client_gone",
        "cooling_down",
        "event_too_large",
        "no_upstream",
        "server_shutting_down",
        "stale_connection",
        "stream_stopped",
        "upstream_bad_framing",
        "upstream_connect_timeout",
        "upstream_first_byte_timeout",
        "upstream_idle_timeout",
        "upstream_invalid_response",
        "upstream_invalid_stream",
        "upstream_redirect",
        "upstream_tls",
        "upstream_total_timeout",
        "upstream_truncated",
        "upstream_unreachable",
    )
)
"""The proxy's own error codes."""


class Try(msgspec.Struct):
    """One attempt at one upstream.

    :ivar status: HTTP status it answered; None: no answer began.
    :ivar error: why it did not do, as an error code; None: it answered, or is still under way.
    :ivar reached: the request may have arrived.
    """

    upstream: str
    upstream_model: str
    status: int | None = None
    error: str | None = None
    reached: bool = True

    @property
    def may_be_billed(self) -> bool:
        """Whether an upstream may have worked for nothing: it had the request, and failed without refusing it."""
        return self.error is not None and self.reached and not self._is_refused

    @property
    def is_free(self) -> bool:
        """Whether nobody pays for it, though its client left meanwhile: it had failed already, or was refused."""
        return not self.reached or self._is_refused or self.error not in (None, "client_gone")

    @property
    def _is_refused(self) -> bool:
        return self.status is not None and self.status >= 400

    @property
    def result(self) -> str:
        """How it ended, in one of few words; an error code may be the upstream's own invention."""
        if self.error is None:
            return "answered"
        if self.status is not None and 400 <= self.status < 600:
            return f"status_{self.status}"
        return in_few_words(self.error)


def in_few_words(code: str) -> str:
    """An error code as it is if it is the proxy's own, else ``error``."""
    return code if code in KNOWN else "error"


_decode: Final = msgspec.json.Decoder(list[Try]).decode


def as_text(tries: Sequence[Try]) -> str | None:
    """The tries as JSON; None for the plain case, one that answered, which the charge itself describes.

    What is no text in them, half a surrogate pair in a vendor's error code, becomes a question mark.
    """
    if not tries or (len(tries) == 1 and tries[0].error is None):
        return None
    try:
        return msgspec.json.encode(tries).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode([*map(_with_sound_texts, tries)]).decode()


def _with_sound_texts(tried: Try) -> Try:
    return msgspec.structs.replace(
        tried,
        upstream=_sound(tried.upstream),
        upstream_model=_sound(tried.upstream_model),
        error=None if tried.error is None else _sound(tried.error),
    )


def _sound(text: str) -> str:
    return text.encode(errors="replace").decode()


def as_rows(text: str | None, only: Try) -> list[dict[str, Any]]:
    """What :func:`as_text` wrote, for people.

    :param only: the plain case in the charge's own words; without a status there was none.
    """
    plain = [only] if only.status is not None else []
    tries = plain if text is None else _decode(text)
    return [{**msgspec.structs.asdict(each), "may_be_billed": each.may_be_billed} for each in tries]
