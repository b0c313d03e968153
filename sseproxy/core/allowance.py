"""What a user may use: money per period, requests and tokens per time, streams at once. Plain data, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Period = Literal["day", "week", "month", "total"]


@dataclass(frozen=True)
class Budget:
    """What a user may spend in each period (UTC; weeks begin on Monday).

    :param limit: nano-USD.
    :param per: ``total`` is prepaid: it never renews.
    """

    limit: int
    per: Period


@dataclass(frozen=True)
class Rate:
    """So many in any time of that length.

    :param seconds: the length of the time.
    """

    count: int
    seconds: int


@dataclass(frozen=True)
class Limits:
    """How much a user may ask for at a time; None: as much as they like.

    :param streams: streams that may run at once.
    """

    requests: Rate | None = None
    tokens: Rate | None = None
    streams: int | None = None

    def __bool__(self) -> bool:
        return self.requests is not None or self.tokens is not None or self.streams is not None
