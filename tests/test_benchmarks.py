"""The benchmarks can be trusted: their programs compile, whole streams count as whole, and broken ones are found."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.load.build import compile_program
from benchmarks.load.figures import Figures
from benchmarks.load.plot import plot
from benchmarks.load.table import figures_table, targets_table
from tests.harness import PATIENCE, free_port
from tests.harness.parts import require_tool
from tests.harness.servers import start

TOKENS = 20


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the programs are in."""
    require_tool("cc")
    directory = tmp_path_factory.mktemp("programs")
    for name in ("upstream", "client"):
        compile_program(name, directory)
    return directory


@pytest.fixture(scope="module")
def upstream(programs: Path) -> Iterator[int]:
    """The port of a running upstream."""
    port = free_port()
    with start([str(programs / "upstream"), str(port)], port, programs) as running:
        yield running.port


def load(programs: Path, port: int, model: str, *options: str, stream: bool = True) -> dict[str, Any]:
    """What the clients say of six answers of this model, read by two at a time."""
    body = programs / f"{model}.json"
    body.write_text(json.dumps({"model": model, "stream": stream, "stream_options": {"include_usage": True}}), "utf-8")
    command = [str(programs / "client"), "-a", f"127.0.0.1:{port}", "-b", str(body), "-c", "2", "-r", "6", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("pause", [0, 500], ids=["at once", "paced"])
def test_whole_streams_are_whole(programs: Path, upstream: int, pause: int) -> None:
    run = load(programs, upstream, f"load-{TOKENS}-{pause}", "-s", "-t", str(TOKENS))
    assert (run["whole"], run["errors"], run["with_usage"]) == (6, 0, 6)
    assert run["event"]["count"] == 6 * TOKENS
    assert run["first"]["count"] == 6


def test_answers_in_one_piece_are_whole(programs: Path, upstream: int) -> None:
    run = load(programs, upstream, "load-20-0", stream=False)
    assert (run["whole"], run["errors"]) == (6, 0)


@pytest.mark.parametrize(
    ("model", "tokens", "fault"),
    [
        ("load-20-0-cut", TOKENS, "dropped"),
        ("load-20-0-skip", TOKENS, "incomplete"),
        ("load-20-0-open", TOKENS, "incomplete"),
        ("load-20-0", TOKENS + 1, "incomplete"),
        ("nothing", TOKENS, "status"),
    ],
    ids=["hung up on", "a token left out", "no [DONE]", "too short", "refused"],
)
def test_broken_streams_are_found(programs: Path, upstream: int, model: str, tokens: int, fault: str) -> None:
    run = load(programs, upstream, model, "-s", "-t", str(tokens))
    assert run["whole"] == 0
    assert run["faults"][fault] == run["errors"] == 6


def run_of(cpu: float, **other: Any) -> dict[str, Any]:
    quick = {"count": 1, "p50": 100, "p99": 2000}
    faults = {"dropped": 0}
    figures = {"errors": 0, "refused": 0, "held": True, "per_second": 5.0, "event": quick, "first": quick}
    return {**figures, "faults": faults, "cpu_per_event": cpu, "memory_per_client": 51200.0, **other}


def test_a_target_missed_is_told_from_one_met() -> None:
    broken = run_of(15, errors=3, faults={"dropped": 3})
    figures = Figures(
        {
            "direct": {"S3@1000": run_of(0)},
            "nginx": {"S3@500": run_of(10), "S3@1000": run_of(10)},
            "waitress": {"S3@500": run_of(15.9), "S3@1000": broken},
            "gevent": {"S3@500": run_of(16.1), "S3@1000": run_of(12)},
        }
    )
    lines = targets_table(figures).splitlines()
    assert lines[2].endswith("| 1.59× met | 1.61× **missed** |")
    assert lines[3].endswith("| 3.00 **missed** | 0.00 met |")
    assert lines[4].endswith("| **missed** | 0.00 ms met |")
    assert lines[6].endswith("| – | – |")
    assert "| errors: 3 dropped | 12.0 (1.20 ×) |" in figures_table(figures)


def test_the_plot_has_a_line_for_each_server() -> None:
    picture = plot("title", "across", {"a & b": [(50.0, 12.0), (2000.0, 8.5)], "c": [(50.0, 30.0)], "none": []})
    assert picture.count("<polyline") == 2
    assert "a &amp; b" in picture
