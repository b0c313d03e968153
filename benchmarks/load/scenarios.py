"""What is asked of a proxy: how many streams at once, how long and how fast each one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PER_SECOND: Final = 50
"""Tokens per second of a paced stream."""
SLOW: Final = 10
"""Likewise, where there are to be more streams than a core carries at :data:`PER_SECOND`."""
LONG: Final = 100_000
SHORT: Final = 10_000
FEW: Final = 200
MANY: Final = 2_000


@dataclass(frozen=True)
class Scenario:
    """One load."""

    name: str
    clients: int
    """At once."""
    tokens: int
    """Of each answer."""
    seconds: float
    """How long requests are begun."""
    settling: float = 0.0
    """Seconds of that, the first, that do not count for the answers per second."""
    requests: int | None = None
    """How many are begun at most."""
    streamed: bool = True
    pause: int = 0
    """Microseconds between two tokens; 0: as fast as they are read."""
    spread: float = 0.0
    """Seconds over which the clients begin."""
    nap: int = 0
    """Microseconds that the load generator lets pass between two looks."""
    is_timed: bool = False
    """Whether times count, and not only the work."""

    @property
    def model(self) -> str:
        """The name that tells the upstream what to do."""
        return f"load-{self.tokens}-{self.pause}"

    @property
    def is_rung(self) -> bool:
        """Whether it is one of the ladder: paced streams, so many at once."""
        return self.name.startswith("S3@")


def paced(kind: str, streams: int, *, per_second: int, spread: float, rounds: int = 1) -> Scenario:
    """So many streams at once, each of so many tokens a second."""
    return Scenario(
        f"{kind}@{streams}",
        clients=streams,
        tokens=100,
        seconds=25,
        requests=streams * rounds,
        pause=1_000_000 // per_second,
        spread=spread,
        nap=200 if streams >= 200 else 50,
        is_timed=True,
    )


def rung(streams: int, rounds: int) -> Scenario:
    """One of the ladder."""
    return paced("S3", streams, per_second=PER_SECOND, spread=1.0, rounds=rounds)


def plan(names: Sequence[str], ladder: Sequence[int], quick: bool) -> list[Scenario]:
    """The scenarios of these names, in the order in which they are run.

    :param names: of ``S1``, ``S2``, ``S3``, ``S4``, ``slow``, ``long``.
    :param ladder: how many streams at once, for S3.
    """
    seconds = 0.5 if quick else 4.0
    parts = 1 if quick else 3
    every = {
        "S1": [Scenario("S1", 16, 100, seconds, streamed=False)],
        "S2": [Scenario("S2", 16, 200, seconds)],
        "S4": [Scenario("S4", 1, 10, min(seconds, 3.0), is_timed=True)],
        "S3": [rung(streams, 1 if quick else 3 if streams <= 100 else 2) for streams in sorted(ladder)],
        "slow": [paced("slow", streams, per_second=SLOW, spread=5.0) for streams in (FEW, MANY)],
        "long": [
            Scenario(f"long@{SHORT}", 1, SHORT, 60, requests=parts * LONG // SHORT),
            Scenario(f"long@{LONG}", 1, LONG, 60, requests=parts),
        ],
    }
    return [scenario for name, scenarios in every.items() if name in names for scenario in scenarios]
