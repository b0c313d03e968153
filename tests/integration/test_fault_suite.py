"""A small run of ``make books``: every ending at random, kill -9 of workers and of everything, and all books right."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults.run import run_suite
from benchmarks.faults.streams import ENDINGS, plan_streams
from benchmarks.faults.upstream import PROSE, count, prose


def test_whatever_ends_a_stream_its_charge_is_right(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")

    verdict = run_suite(120, f"sqlite:///{tmp_path}/usage.db", clients=24)

    print(verdict.log)
    assert verdict.broken == []
    assert (verdict.total.lost, verdict.total.doubled, verdict.total.reported_wrong) == (0, 0, 0)
    assert verdict.total.streams + verdict.never_accepted == 120


def test_the_suite_is_the_same_for_the_same_seed_and_has_every_ending() -> None:
    streams = plan_streams(2000, 1, PROSE)

    assert streams == plan_streams(2000, 1, PROSE)
    assert {stream.ending.name for stream in streams} == {ending.name for ending in ENDINGS}


def test_a_token_of_the_suite_s_upstream_is_a_token_of_the_vocabulary() -> None:
    assert "".join(text for text, _ in prose()) == PROSE
    assert sum(tokens for _, tokens in prose()) == count(PROSE)
    assert count(PROSE + PROSE) == 2 * count(PROSE)
