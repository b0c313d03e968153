"""What is read off the runs: figures of one server, beside nginx and beside no proxy at all. None: there is none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from benchmarks.load.measure import Run
from benchmarks.load.scenarios import FEW, LONG, MANY, PER_SECOND, SHORT

DIRECT = "direct"
YARDSTICK = "nginx"


class Figures:
    """Of all servers.

    :param runs: by server, then by scenario.
    """

    def __init__(self, runs: Mapping[str, Mapping[str, Run]]) -> None:
        self.runs = runs

    @property
    def servers(self) -> list[str]:
        """Those in the way: all but the baseline."""
        return [name for name in self.runs if name != DIRECT]

    @property
    def ladder(self) -> list[int]:
        """All numbers of paced streams that were tried."""
        rungs = {name for runs in self.runs.values() for name in runs if name.startswith("S3@")}
        return sorted(int(name.removeprefix("S3@")) for name in rungs)

    @property
    def foreign(self) -> float:
        """The largest share of the proxy's CPU that something else had: of the medians, so one bad moment is none."""
        return max((run.get("foreign", 0.0) for runs in self.runs.values() for run in runs.values()), default=0.0)

    def failed(self, server: str, scenarios: Iterable[str]) -> bool:
        """Whether one of these, which were all run on others, was not reached here or had errors."""
        tried = {name for runs in self.runs.values() for name in runs}
        return set(scenarios) <= tried and not all(self.run(server, name) for name in scenarios)

    def run(self, server: str, scenario: str) -> Run | None:
        """One run without errors."""
        run = self.runs.get(server, {}).get(scenario)
        return run if run and not run["errors"] else None

    def errors(self, server: str, scenario: str) -> float | None:
        """How many answers were broken or refused."""
        run = self.runs.get(server, {}).get(scenario)
        return None if run is None else float(run["errors"] + run["refused"])

    def cpu(self, server: str, scenario: str) -> float | None:
        """Microseconds per event."""
        run = self.run(server, scenario)
        return run.get("cpu_per_event") if run else None

    def ratio(self, server: str, scenario: str) -> float | None:
        """CPU per event, to that of the yardstick."""
        return _quotient(self.cpu(server, scenario), self.cpu(YARDSTICK, scenario))

    def added(self, server: str, scenario: str, what: str, quantile: str) -> float | None:
        """Milliseconds that it adds to ``event`` (a token's way) or ``first`` (the time to the first one)."""
        run, direct = self.run(server, scenario), self.run(DIRECT, scenario)
        return (run[what][quantile] - direct[what][quantile]) / 1000 if run and direct else None

    def per_second(self, server: str, scenario: str) -> float | None:
        """Answers per second."""
        run = self.run(server, scenario)
        return run["per_second"] if run else None

    def memory(self, server: str, streams: int) -> float | None:
        """KiB per running stream beyond what the idle server takes."""
        run = self.run(server, f"S3@{streams}")
        return run["memory_per_client"] / 1024 if run and "memory_per_client" in run else None

    def idle_memory(self, server: str) -> float | None:
        """MiB of the idle server, warmed up."""
        idle = [run["memory_idle"] for run in self.runs.get(server, {}).values() if "memory_idle" in run]
        return idle[0] / 1024 / 1024 if idle else None

    def growth(self, server: str) -> float | None:
        """CPU per event with many streams, to that with a tenth as many."""
        return _quotient(self.cpu(server, f"slow@{MANY}"), self.cpu(server, f"slow@{FEW}"))

    def growth_of_answer(self, server: str) -> float | None:
        """CPU per event of a long answer, to that of one a tenth as long."""
        return _quotient(self.cpu(server, f"long@{LONG}"), self.cpu(server, f"long@{SHORT}"))

    def highest(self, server: str) -> int | None:
        """The most streams at once that it kept up with."""
        runs = self.runs.get(server, {})
        held = [int(name[3:]) for name, run in runs.items() if re.match(r"S3@\d+$", name) and run["held"]]
        return max(held, default=None)

    def streams_per_core(self, server: str) -> float | None:
        """How many streams would fill a core, by the CPU per event at the most it kept up with."""
        cpu = self.cpu(server, f"S3@{self.highest(server)}")
        return 1e6 / PER_SECOND / cpu if cpu else None

    def streams_per_gib(self, server: str) -> float | None:
        """How many streams fit into a GiB, likewise."""
        highest = self.highest(server)
        memory = self.memory(server, highest) if highest else None
        return 1024 * 1024 / memory if memory else None


def _quotient(number: float | None, by: float | None) -> float | None:
    return number / by if number is not None and by else None
