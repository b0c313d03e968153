"""Runs one load on one proxy and says what came of it: CPU per event, times, errors, memory.

A run is a plain mapping of figures, as it stands in ``results/*.json``; times in microseconds, memory in bytes.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.load.build import compile_program
from benchmarks.load.processes import LOAD_CPU, PROXY_CPU, Process, busy_seconds, free_port, make_urgent, wait_until
from benchmarks.load.scenarios import Scenario
from benchmarks.load.servers import Launch, Place

Run = dict[str, Any]

_LATE: Final = 500_000
"""Microseconds. A ladder is climbed no higher when 1 % of the tokens, or of the first ones, take longer."""
_AFTERWARDS: Final = 0.3
"""Seconds. What a proxy does after the last byte, such as booking, is its work too."""
_SMOKE: Final = Scenario("smoke", 1, 20, 10, requests=1)
_WARM_UP: Final = (Scenario("warm-up", 8, 100, 1.0, streamed=False), Scenario("warm-up", 8, 20, 1.0))
_TEXT: Final = "Say something about nothing in particular, in one short paragraph, please. "


class Bench:
    """The upstream and a place for files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.client = compile_program("client")
        self.upstream = free_port()
        self.is_urgent = True
        """Whether the load generator could be given precedence."""
        command = [str(compile_program("upstream")), str(self.upstream)]
        self._process = Process(command, LOAD_CPU, directory / "upstream.log")
        with self._stopped_on_failure():
            wait_until(lambda: _status(f"http://127.0.0.1:{self.upstream}/v1/models", ()), self._process, 5)

    def close(self) -> None:
        self._process.stop()

    @contextlib.contextmanager
    def _stopped_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def direct(self) -> Iterator[Target]:
        """No proxy: the baseline."""
        yield Target(self, self.upstream, (), None)

    @contextlib.contextmanager
    def proxy(self, launcher: Callable[[Place], Launch], streams: int) -> Iterator[Target]:
        """A running proxy that has shown that it passes streams on, and has done so for a while.

        :raises Missing: it is not installed.
        :raises RuntimeError: it does not start, or does not work.
        """
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        place = Place(directory, free_port(), self.upstream, streams)
        launch = launcher(place)
        process = Process(launch.command, PROXY_CPU, directory / "log", launch.env, directory)
        try:
            url = f"http://127.0.0.1:{place.port}{launch.ready}"
            wait_until(lambda: _status(url, launch.headers) < 500, process, launch.patience)
            target = Target(self, place.port, launch.headers, process)
            target.warm_up()
            yield target
        finally:
            process.stop()


class Target:
    """What the load goes to."""

    def __init__(self, bench: Bench, port: int, headers: Sequence[str], process: Process | None) -> None:
        self._bench = bench
        self._port = port
        self._headers = headers
        self._process = process
        self._idle = 0

    def warm_up(self) -> None:
        """One checked answer, then some more.

        :raises RuntimeError: the answer was wrong.
        """
        assert self._process
        smoke = self.load(_SMOKE)
        if smoke["errors"] or not smoke["whole"]:
            log = self._process.log.read_text("utf-8", "replace")[-2000:]
            raise RuntimeError(f"the first stream was wrong: {smoke}; the log ends:\n{log}")
        for scenario in _WARM_UP:
            self.load(scenario)
        time.sleep(_AFTERWARDS)
        self._idle = self._process.memory()

    def load(self, scenario: Scenario, longest_wait: float = 1.0) -> Run:
        """Only the load: what the clients say.

        :param longest_wait: seconds; a client that was refused waits as Retry-After says, but not longer.
        """
        return self._result(self._start_client(scenario, longest_wait), scenario)

    def measure(self, scenario: Scenario) -> Run:
        """The load, and what it cost the proxy."""
        if self._process is None:
            return self.load(scenario)
        began, busy = time.monotonic(), busy_seconds(PROXY_CPU)
        before, memory = self._process.cpu_seconds(), 0
        client = self._start_client(scenario, 1.0)
        with _killed_on_failure(client):
            while client.poll() is None:
                memory = max(memory, self._process.memory())
                time.sleep(0.2)
        run = self._result(client, scenario)
        time.sleep(_AFTERWARDS)
        spent = (self._process.cpu_seconds() - before) * 1e6
        foreign = busy_seconds(PROXY_CPU) - busy - spent / 1e6
        answers = run["whole"] + run["errors"]
        return {
            **run,
            "cpu_per_event": spent / max(1, run["event"]["count"]),
            "cpu_per_answer": spent / max(1, answers),
            "foreign": max(0.0, foreign / (time.monotonic() - began)),
            "memory": memory,
            "memory_idle": self._idle,
            "memory_per_client": max(0, memory - self._idle) / scenario.clients,
        }

    def _start_client(self, scenario: Scenario, longest_wait: float) -> subprocess.Popen[bytes]:
        body = self._bench.directory / "body.json"
        body.write_text(json.dumps(_body(scenario)), "utf-8")
        command: list[object] = [self._bench.client, "-a", f"127.0.0.1:{self._port}", "-b", str(body)]
        command += ["-c", scenario.clients, "-d", scenario.seconds, "-t", scenario.tokens if scenario.streamed else 1]
        command += ["-m", scenario.settling, "-g", scenario.spread, "-q", scenario.nap, "-w", longest_wait]
        command += ["-r", scenario.requests] if scenario.requests is not None else []
        command += ["-s"] if scenario.streamed else []
        command += [word for header in self._headers for word in ("-H", header)]
        client = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)
        if scenario.is_timed:
            self._bench.is_urgent = make_urgent(client.pid)
        return client

    def _result(self, client: subprocess.Popen[bytes], scenario: Scenario) -> Run:
        with _killed_on_failure(client):
            out, _ = client.communicate()
        if client.returncode:
            raise RuntimeError(f"the load generator ended with {client.returncode}")
        run: Run = json.loads(out)
        counted = min(run["seconds"], scenario.seconds) - scenario.settling
        return {**run, "per_second": run["whole_in_time"] / counted}


@contextlib.contextmanager
def _killed_on_failure(client: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        client.kill()
        client.wait()
        raise


def _body(scenario: Scenario) -> dict[str, Any]:
    body: dict[str, Any] = {"model": scenario.model, "messages": [{"role": "user", "content": _TEXT * 4}]}
    if scenario.streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def _status(url: str, headers: Sequence[str]) -> int:
    request = urllib.request.Request(url, headers=dict(each.split(": ", 1) for each in headers))
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def is_held(run: Run) -> bool:
    """Whether the proxy kept up: nothing broken, nothing late by half a second."""
    return not run["errors"] and max(run["event"]["p99"], run["first"]["p99"]) <= _LATE


def median(runs: Sequence[Run]) -> Run:
    """The median of each figure; errors and refusals are summed."""
    merged: Run = {"runs": len(runs), "held": all(map(is_held, runs))}
    for name, value in runs[0].items():
        values = [run[name] for run in runs]
        if name == "faults":
            merged[name] = {each: sum(of[each] for of in values) for each in value}
        elif isinstance(value, dict):
            merged[name] = {each: statistics.median(of[each] for of in values) for each in value}
        elif name in ("errors", "refused"):
            merged[name] = sum(values)
        else:
            merged[name] = statistics.median(values)
    return merged
