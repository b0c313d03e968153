"""What booking costs: ``python benchmarks/ledger.py [--url postgresql://...] [--report 1000000]``.

Prints the CPU of reserve + settle in one thread, charges per second and latencies from 16 threads and from several
processes, and the time of a report over many charges. The books are thrown away unless a URL is given.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from sqlalchemy import insert, text

from sseproxy.core.digest import digest_of
from sseproxy.core.usage import Usage
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from sseproxy.ledger.protocol import Budget, Charge, Checkpoint, Settlement
from sseproxy.ledger.schema import charges, micros

NOW = datetime.now(timezone.utc)
BUDGET = Budget(10**15, "month")
DONE = Settlement("completed", "reported", Usage(100, 20, 0, 50, 10), 7, 12_345, 200, 120, 3400)


def book(ledger: SQLLedger, charge_id: str, user: str) -> None:
    """One request's worth of booking."""
    ledger.reserve(Charge(charge_id, user, "key_1", "/v1/chat/completions", "m", "main", "m", 20_000, NOW), BUDGET)
    assert ledger.settle(charge_id, DONE)


def measure_cpu(ledger: SQLLedger, number: int) -> None:
    """CPU of one request, one thread."""
    spent = []
    for index in range(number):
        began = time.process_time()
        book(ledger, f"cpu-{os.getpid()}-{index}", f"user{index % 50}")
        spent.append((time.process_time() - began) * 1e6)
    began = time.process_time()
    hashed = digest_of("sk-sp-nothing")
    for _ in range(1000):
        ledger.find_key(hashed)
    key = (time.process_time() - began) * 1000
    print(f"reserve + settle: {statistics.median(spent):.0f} us CPU (median of {number}); find_key: {key:.0f} us")


def measure_threads(ledger: SQLLedger, threads: int, number: int, label: str = "") -> None:
    """Charges per second and how long each half of one takes, from many threads at once."""
    latencies: list[float] = []
    start = threading.Barrier(threads + 1)

    def work(worker: int) -> None:
        mine = []
        start.wait()
        for index in range(number // threads):
            charge = Charge(
                f"t{threads}{label}-{os.getpid()}-{worker}-{index}",
                f"user{(worker + index) % 50}",
                None,
                "/v1",
                "m",
                "main",
                "m",
                20_000,
                NOW,
            )
            began = time.perf_counter()
            ledger.reserve(charge, BUDGET)
            between = time.perf_counter()
            ledger.settle(charge.id, DONE)
            mine += [between - began, time.perf_counter() - between]
        latencies.extend(mine)

    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - began
    latencies.sort()
    middle, late = (latencies[int(len(latencies) * share)] * 1000 for share in (0.5, 0.99))
    print(
        f"{threads} threads{label}: {len(latencies) / 2 / took:.0f} charges/s, a call p50 {middle:.2f} ms,"
        f" p99 {late:.2f} ms, max {latencies[-1] * 1000:.1f} ms"
    )


def measure_processes(ledger: SQLLedger, processes: int, number: int) -> None:
    """The same from several processes on one ledger, four threads each."""
    children = []
    for index in range(processes):
        child = os.fork()
        if child == 0:
            try:
                measure_threads(ledger, 4, number, f" of process {index + 1} of {processes}")
            finally:
                os._exit(0)  # a child must not clear the parent's folder away
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def measure_checkpoint(ledger: SQLLedger, number: int) -> None:
    """One checkpoint of many running streams."""
    ids = [f"run-{index}" for index in range(number)]
    for charge_id in ids:
        ledger.reserve(Charge(charge_id, "runner", None, "/v1", "m", "main", "m", 20_000, NOW))
    began = time.process_time()
    ledger.checkpoint({charge_id: Checkpoint(Usage(100, output_tokens=20), 999) for charge_id in ids})
    print(f"checkpoint of {number} running charges: {(time.process_time() - began) * 1000:.1f} ms CPU")
    for charge_id in ids:
        ledger.settle(charge_id, DONE)


def fill(ledger: SQLLedger, number: int, users: int) -> None:
    """Many charges over 90 days, and the sums that booking them one by one would have kept."""
    dice = random.Random(1)
    rows = ({**_ended_charge(dice, users), "id": f"fill-{index}"} for index in range(number))
    with ledger.database.change() as connection:
        while batch := [row for _, row in zip(range(20_000), rows, strict=False)]:
            connection.execute(insert(charges), batch)
        sums = "unpriced, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, cost"
        added = ", ".join(f"SUM({name})" for name in sums.replace("unpriced, ", "").split(", "))
        day = "started_at / 86400000000"
        connection.execute(
            text(
                f'INSERT INTO daily_usage (day, "user", model, route, "key", upstream, requests, {sums})'
                f' SELECT {day}, "user", model, route, COALESCE("key", \'\'), upstream, COUNT(*), 0, {added}'
                f" FROM charges WHERE id LIKE 'fill-%'"
                f' GROUP BY {day}, "user", model, route, COALESCE("key", \'\'), upstream'
                " ON CONFLICT DO NOTHING"
            )
        )


def _ended_charge(dice: random.Random, users: int) -> dict[str, object]:
    return {
        "user": f"user{dice.randrange(users)}",
        "key": f"key_{dice.randrange(2)}",
        "route": "/v1/chat/completions",
        "model": dice.choice(("gpt-4o", "gpt-4o-mini", "claude-sonnet-4")),
        "upstream": "main",
        "upstream_model": "m",
        "state": "settled",
        "outcome": "completed",
        "usage_source": "reported",
        "input_tokens": dice.randrange(5000),
        "output_tokens": dice.randrange(900),
        "reserved": 20_000,
        "cost": dice.randrange(10**6),
        "unpriced": False,
        "started_at": micros(NOW - timedelta(days=1) - timedelta(seconds=dice.randrange(90 * 86_400))),
        "owner": "bench",
    }


def measure_reports(ledger: SQLLedger) -> None:
    """How long people wait."""
    since = NOW - timedelta(days=45, hours=5)
    questions: dict[str, Callable[[], object]] = {
        "usage --by user": lambda: ledger.usage("user"),
        "usage --by day": lambda: ledger.usage("day"),
        "usage --by model --since (45 days and 5 hours ago)": lambda: ledger.usage("model", since=since),
        "usage --by user --user user7": lambda: ledger.usage("user", user="user7"),
        "charges --user user7 (newest 100)": lambda: list(ledger.charges(user="user7", limit=100)),
    }
    for name, ask in questions.items():
        began = time.perf_counter()
        ask()
        print(f"{name}: {(time.perf_counter() - began) * 1000:.0f} ms")


@contextmanager
def books(url: str | None) -> Iterator[SQLLedger]:
    """The ledger to measure."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(url or f"sqlite:///{folder}/books.db")
        yield ledger
        ledger.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a database to measure on; it is left with the benchmark's charges in it")
    parser.add_argument("--number", type=int, default=8000, help="charges per measurement")
    parser.add_argument(
        "--report", type=int, default=0, metavar="N", help="also fill in N charges and time the reports"
    )
    parser.add_argument("--users", type=int, default=1000, help="users that those charges belong to")
    given = parser.parse_args()
    with books(given.url) as ledger:
        measure_cpu(ledger, given.number)
        for threads in (1, 4, 16, 64):
            measure_threads(ledger, threads, given.number)
        measure_processes(ledger, 4, given.number // 4)
        measure_checkpoint(ledger, 1000)
        if given.report:
            began = time.perf_counter()
            fill(ledger, given.report, given.users)
            print(f"filled in {given.report} charges of {given.users} users in {time.perf_counter() - began:.0f} s")
            measure_reports(ledger)


if __name__ == "__main__":
    main()
