"""What does the proxy cost, beside nginx?  ``python benchmarks/streams.py [--quick] [--peers litellm,portkey]``.

An upstream and clients in C on one CPU, the proxy and all its processes on another; its CPU time is what the operating
system says. Every stream is checked to be whole. sseproxy has everything on, nginx only relays. Scenarios:

* S1: answers in one piece, 16 at once. S2: streams of 200 tokens as fast as they go, 16 at once.
* S3: so many streams at once, 50 tokens a second each, 100 tokens: the ladder.
* S4: one client, streams of 10 tokens: the time to the first one. long: answers of 10,000 and of 100,000 tokens.
* slow: 200 and 2,000 streams at once, 10 tokens a second each, so that a core carries as many.

Takes about half an hour, with --quick less than a minute. Linux, a C compiler, nginx. Writes streams.json,
streams.md and streams.svg to benchmarks/results.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.load.build import Missing  # noqa: E402
from benchmarks.load.figures import DIRECT, YARDSTICK  # noqa: E402
from benchmarks.load.machine import describe  # noqa: E402
from benchmarks.load.measure import Bench, Run, Target, is_held, median  # noqa: E402
from benchmarks.load.peers import PEERS, peer  # noqa: E402
from benchmarks.load.processes import LOAD_CPU, PROXY_CPU, allow_files  # noqa: E402
from benchmarks.load.report import NOISE, write  # noqa: E402
from benchmarks.load.scenarios import Scenario, plan  # noqa: E402
from benchmarks.load.servers import SSEPROXY, Launch, Place, nginx  # noqa: E402
from benchmarks.load.table import number  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
SPARE_THREADS = 64
FILES_PER_STREAM = 4
Runs = dict[str, dict[str, list[Run]]]
Launcher = Callable[[Place], Launch]


def climb(name: str, target: Target, scenarios: list[Scenario], runs: Runs) -> None:
    """All scenarios on one running server; a ladder is climbed as far as the server keeps up."""
    gave_up = False
    for scenario in scenarios:
        if scenario.is_rung and gave_up:
            continue
        run = target.measure(scenario)
        runs.setdefault(name, {}).setdefault(scenario.name, []).append(run)
        gave_up = gave_up or (scenario.is_rung and not is_held(run))
        print(f"{name:10}{scenario.name:12}{_line(run, scenario)}", flush=True)


def _line(run: Run, scenario: Scenario) -> str:
    cpu = f"{number(run['cpu_per_event'])} µs CPU per event, " if "cpu_per_event" in run else ""
    event, first = run["event"], run["first"]
    times = f"token p50 {event['p50'] / 1000:.2f} p99 {event['p99'] / 1000:.2f}, first p50 {first['p50'] / 1000:.2f} ms"
    measured = scenario.is_rung and "memory_per_client" in run
    memory = f", {run['memory_per_client'] / 1024:.0f} KiB each" if measured else ""
    noise = f", OTHERS TOOK {run['foreign']:.0%} OF THE CPU" if run.get("foreign", 0) > NOISE else ""
    errors = f", ERRORS: {run['faults']}" if run["errors"] else ""
    return f"{cpu}{times}{memory}, {run['per_second']:.0f} answers/s{errors}{noise}"


def measure(
    bench: Bench, launchers: dict[str, Launcher], scenarios: list[Scenario], threads: int, reps: int
) -> tuple[Runs, set[str]]:
    """Every server in turn, then all over again: what changes on the machine in between meets all of them.

    :return: the runs, and the servers that are missing or did not work.
    """
    runs: Runs = {}
    missing: set[str] = set()
    for _ in range(reps):
        with bench.direct() as target:
            climb(DIRECT, target, scenarios, runs)
        for name, launcher in launchers.items():
            if name in missing:
                continue
            try:
                with bench.proxy(launcher, threads) as target:
                    # A peer may take minutes for what is over in a second.
                    mine = [each for each in scenarios if name not in PEERS or not each.name.startswith("long")]
                    climb(name, target, mine, runs)
            except (Missing, RuntimeError) as error:
                print(f"{name}: skipped: {error}", flush=True)
                missing.add(name)
    return runs, missing


def _listed(text: str) -> list[str]:
    return [each for each in text.split(",") if each]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--servers", type=_listed, default=list(SSEPROXY), help=f"of {','.join(SSEPROXY)}")
    parser.add_argument("--peers", type=_listed, default=[], help=f"of {','.join(PEERS)}: installed into build/bench")
    parser.add_argument("--scenarios", type=_listed, default=["S1", "S2", "S3", "S4", "slow", "long"])
    parser.add_argument("--ladder", help="numbers of streams for S3 (default 50,200,500,1000,2000)")
    parser.add_argument("--reps", type=int, help="runs of each, of which the median counts (default 3)")
    parser.add_argument("--quick", action="store_true", help="one short run of each, and only 100 streams")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the files go")
    given = parser.parse_args()
    if unknown := [*set(given.servers) - set(SSEPROXY), *set(given.peers) - set(PEERS)]:
        parser.error(f"unknown: {', '.join(unknown)}")
    given.reps = given.reps or (1 if given.quick else 3)
    ladder = given.ladder or ("100" if given.quick else "50,200,500,1000,2000")
    given.ladder = [int(each) for each in ladder.split(",")]
    return given


def main() -> int:
    """Measure, write, print; 1 if a server of sseproxy did not work."""
    given = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is stopped
    scenarios = plan(given.scenarios, given.ladder, given.quick)
    threads = max(scenario.clients for scenario in scenarios) + SPARE_THREADS
    wanted = FILES_PER_STREAM * threads
    if (files := allow_files(wanted)) < wanted:
        print(f"only {files} files may be open (ulimit -Hn): the upper rungs will fail")
    if PROXY_CPU == LOAD_CPU:
        print("only one CPU: proxy and load share it, and times say little")
    os.sched_setaffinity(0, {LOAD_CPU})
    launchers: dict[str, Launcher] = {YARDSTICK: nginx} | {name: SSEPROXY[name] for name in given.servers}
    launchers |= {name: peer(name) for name in given.peers}
    with tempfile.TemporaryDirectory() as directory, contextlib.closing(Bench(Path(directory))) as bench:
        runs, missing = measure(bench, launchers, scenarios, threads, given.reps)
        urgent = bench.is_urgent
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python", "benchmarks/streams.py", *sys.argv[1:]]),
        "machine": describe() | {name: PEERS[name].version for name in given.peers},
        "reps": given.reps,
        "threads": threads,
        "urgent": urgent,
        "servers": {name: {scenario: median(of) for scenario, of in each.items()} for name, each in runs.items()},
    }
    print("\n" + write(result, given.results))
    return 1 if missing & set(SSEPROXY) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Missing, KeyboardInterrupt) as error:
        sys.exit(str(error) or "stopped")
