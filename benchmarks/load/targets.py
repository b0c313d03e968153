"""What sseproxy promises, beside nginx on the same machine in the same run: each target, and whether it is met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.load.figures import Figures
from benchmarks.load.scenarios import FEW, LONG, MANY, SHORT


@dataclass(frozen=True)
class Target:
    """One promise."""

    text: str
    needs: tuple[str, ...]
    """The scenarios that tell."""
    value: Callable[[Figures, str], float | None]
    limit: Callable[[str], float]
    unit: str = ""
    is_floor: bool = False

    def is_met(self, value: float, server: str) -> bool:
        """Whether the value is good enough for that server."""
        limit = self.limit(server)
        return value >= limit if self.is_floor else value <= limit


def _at(limit: float) -> Callable[[str], float]:
    return lambda server: limit


def _memory_limit(server: str) -> float:
    return 60 if server == "gevent" else 150


TARGETS: Final = (
    Target(
        "S3@500: CPU per event, × nginx, at most 1.6",
        ("S3@500",),
        lambda all, name: all.ratio(name, "S3@500"),
        _at(1.6),
        "×",
    ),
    Target("S3@1000: errors, none", ("S3@1000",), lambda all, name: all.errors(name, "S3@1000"), _at(0)),
    Target(
        "S3@1000: p99 of the time added to a token, at most 20 ms",
        ("S3@1000",),
        lambda all, name: all.added(name, "S3@1000", "event", "p99"),
        _at(20),
        " ms",
    ),
    Target(
        "S3@1000: CPU per event, × nginx, at most 1.6",
        ("S3@1000",),
        lambda all, name: all.ratio(name, "S3@1000"),
        _at(1.6),
        "×",
    ),
    Target("S2: CPU per event, × nginx, at most 1.2", ("S2",), lambda all, name: all.ratio(name, "S2"), _at(1.2), "×"),
    Target(
        "S4: p50 of the time added to the first token, at most 0.4 ms",
        ("S4",),
        lambda all, name: all.added(name, "S4", "first", "p50"),
        _at(0.4),
        " ms",
    ),
    Target(
        "S1: answers per second, at least 2,000",
        ("S1",),
        lambda all, name: all.per_second(name, "S1"),
        _at(2000),
        "/s",
        is_floor=True,
    ),
    Target(
        "S3@1000: memory per running stream, at most 60 KiB on gevent, 150 KiB on threads",
        ("S3@1000",),
        lambda all, name: all.memory(name, 1000),
        _memory_limit,
        " KiB",
    ),
    Target(
        "growth: CPU per event at 2,000 streams, × that at 200, at most 1.2",
        (f"slow@{FEW}", f"slow@{MANY}"),
        lambda all, name: all.growth(name),
        _at(1.2),
        "×",
    ),
    Target(
        "growth: CPU per event of answers of 100,000 events, × that of 10,000, at most 1.2",
        (f"long@{SHORT}", f"long@{LONG}"),
        lambda all, name: all.growth_of_answer(name),
        _at(1.2),
        "×",
    ),
)
