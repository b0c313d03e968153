"""Does it collapse when too much is asked of it?  ``python benchmarks/overload.py [--servers waitress,gevent]``.

First more and more clients at once read short streams, each client one after the other, until no more whole streams per
second come of it: the peak. Then three times as many clients as that took. The exit code is 1 unless

* the whole streams per second stay at 80 % of the peak or above;
* every other request was refused with 503 and Retry-After, which the clients honour; no stream was broken.

Linux, a C compiler. Two minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.load.build import Missing  # noqa: E402
from benchmarks.load.measure import Bench, Run, Target  # noqa: E402
from benchmarks.load.processes import LOAD_CPU, allow_files  # noqa: E402
from benchmarks.load.scenarios import PER_SECOND, Scenario  # noqa: E402
from benchmarks.load.servers import SSEPROXY  # noqa: E402
from benchmarks.load.table import label, number, table  # noqa: E402

TOKENS = 20
#: Seconds before it counts: all clients begin at once, and where nobody is refused their first streams end late.
SETTLING = 2.0
FIRST = 8
MOST = 1024
FACTOR = 3
#: Of the peak, under overload.
KEPT = 0.8
#: Twice the clients must bring so much more, or the peak is reached.
WORTH_IT = 1.05
HEADS = ("server", "at the peak", "whole streams/s", f"at {FACTOR} times that", "whole streams/s", "of the peak")
MORE_HEADS = ("refused", "broken", "longest answers, p99", "")


class Outcome(NamedTuple):
    """One server's."""

    clients: int
    peak: Run
    over: Run

    @property
    def kept(self) -> float:
        return float(self.over["per_second"] / self.peak["per_second"]) if self.peak["per_second"] else 0.0

    @property
    def is_kept(self) -> bool:
        """Whether all promises are."""
        return self.kept >= KEPT and not self.over["errors"] and not self.peak["errors"]


def ask(target: Target, clients: int, seconds: float) -> Run:
    """So many clients, each with one stream after the other."""
    pause = 1_000_000 // PER_SECOND
    scenario = Scenario("overload", clients, TOKENS, SETTLING + seconds, settling=SETTLING, pause=pause, spread=0.2)
    run = target.load(scenario)
    refused = f", {run['refused']} refused" if run["refused"] else ""
    whole = f"{run['per_second']:6.1f} whole streams/s"
    print(f"  {clients:5} clients: {whole}{refused}, {run['errors']} broken", flush=True)
    return run


def overload(target: Target, seconds: float) -> Outcome:
    """Find the peak, go beyond."""
    clients, peak = FIRST, ask(target, FIRST, seconds)
    while clients < MOST:
        more = ask(target, 2 * clients, seconds)
        if more["per_second"] < WORTH_IT * peak["per_second"]:
            break
        clients, peak = 2 * clients, more
    return Outcome(clients, peak, ask(target, FACTOR * clients, seconds))


def row(name: str, outcome: Outcome) -> list[str]:
    """One line of the table."""
    peak, over = outcome.peak, outcome.over
    broken = ", ".join(f"{count} {kind}" for kind, count in over["faults"].items() if count) or "none"
    return [
        label(name),
        f"{outcome.clients} clients",
        number(peak["per_second"]),
        f"{FACTOR * outcome.clients} clients",
        number(over["per_second"]),
        f"{outcome.kept:.0%}",
        f"{over['refused']}",
        broken,
        f"{over['answer']['p99'] / 1e6:.1f} s",
        "kept" if outcome.is_kept else "**BROKEN**",
    ]


def main() -> int:
    """All servers; 1 if one does not keep a promise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--servers", default=",".join(SSEPROXY), help=f"of {','.join(SSEPROXY)}")
    parser.add_argument("--threads", type=int, default=32, help="server.threads (default 32)")
    parser.add_argument("--seconds", type=float, default=5, help="of each load (default 5)")
    given = parser.parse_args()
    names = [name for name in given.servers.split(",") if name]
    if unknown := set(names) - set(SSEPROXY):
        parser.error(f"unknown: {', '.join(unknown)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is stopped
    allow_files(4 * FACTOR * MOST)
    os.sched_setaffinity(0, {LOAD_CPU})
    outcomes = {}
    with tempfile.TemporaryDirectory() as directory, contextlib.closing(Bench(Path(directory))) as bench:
        for name in names:
            print(f"{label(name)}, {given.threads} threads", flush=True)
            with bench.proxy(SSEPROXY[name], given.threads) as target:
                outcomes[name] = overload(target, given.seconds)
    print("\n" + table(HEADS + MORE_HEADS, [row(name, outcome) for name, outcome in outcomes.items()]))
    return 0 if all(outcome.is_kept for outcome in outcomes.values()) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Missing, KeyboardInterrupt) as error:
        sys.exit(str(error) or "stopped")
