"""The metrics themselves: bulk observations, what is watched, what is told, and that the docs name each."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics import MetricWrapperBase

from sseproxy.core.pace import BOUNDS, Pace
from sseproxy.metrics import TimedLedger, instruments
from sseproxy.metrics.instruments import Instruments, SummedHistogram

OPERATIONS = (Path(__file__).parent.parent.parent / "docs" / "operations.md").read_text("utf-8")
ROW = re.compile(r"^\| `(?P<name>sseproxy_\w+)` \| (?P<type>\w+)(?P<labels>[^|]*) \|", re.M)


@pytest.fixture
def own() -> Instruments:
    return Instruments(CollectorRegistry())


def test_every_metric_stands_in_the_docs_with_its_type_and_labels_and_no_other(own: Instruments) -> None:
    documented = {
        (match["name"], match["type"], tuple(re.findall(r"`(\w+)`", match["labels"])))
        for match in ROW.finditer(OPERATIONS)
    }
    existing = {
        (each._name + ("_total" if each._type == "counter" else ""), each._type, each._labelnames)
        for each in vars(own).values()
        if isinstance(each, MetricWrapperBase)
    }

    assert documented == existing


def test_every_metric_is_told() -> None:
    text = instruments().exposition("")[1].decode()

    assert {match["name"] for match in ROW.finditer(OPERATIONS)} <= set(re.findall(r"# TYPE (\w+)", text))


def test_many_observations_at_once_are_as_many_one_by_one() -> None:
    registry = CollectorRegistry()
    at_once = SummedHistogram("a", "a", ["x"], registry=registry, buckets=BOUNDS).labels("1")
    one_by_one = Histogram("b", "b", ["x"], registry=registry, buckets=BOUNDS).labels("1")
    gaps = [0.001, 0.005, 0.0051, 0.3, 7.0, 1000.0, 60.0]
    pace, now = Pace(), 0.0
    pace.step(now)
    for gap in gaps:
        one_by_one.observe(gap)
        pace.counts[next((i for i, bound in enumerate(BOUNDS) if gap <= bound), len(BOUNDS))] += 1
    at_once.add(pace.counts, sum(gaps))

    first, second = registry.collect()
    assert [
        (sample.name[1:], sample.labels, sample.value) for sample in first.samples if "created" not in sample.name
    ] == [(sample.name[1:], sample.labels, sample.value) for sample in second.samples if "created" not in sample.name]


def test_what_several_give_for_a_gauge_is_told_as_their_sum_until_they_end(own: Instruments) -> None:
    gauge = own.live_streams.labels("running")
    ends = [own.watch(gauge, lambda: 2), own.watch(gauge, lambda: 3)]
    assert 'sseproxy_live_streams{state="running"} 5.0' in own.exposition("")[1].decode()

    ends[0]()
    ends[0]()
    assert 'sseproxy_live_streams{state="running"} 3.0' in own.exposition("")[1].decode()
    ends[1]()
    assert 'sseproxy_live_streams{state="running"} 0.0' in own.exposition("")[1].decode()


def test_the_same_labels_are_the_same_series(own: Instruments) -> None:
    for _ in range(2):
        own.requests.labels("/", "m", "2xx", "none").inc()
    with pytest.raises(ValueError, match="label count"):
        own.requests.labels("/")
    assert re.findall(r"sseproxy_requests_total\{.*\} (.*)", own.exposition("")[1].decode()) == ["2.0"]


def test_openmetrics_is_told_to_whom_it_is_known(own: Instruments) -> None:
    content_type, text = own.exposition("application/openmetrics-text; version=1.0.0")

    assert content_type.startswith("application/openmetrics-text") and text.endswith(b"# EOF\n")
    assert own.exposition("*/*")[0].startswith("text/plain; version=")


def test_a_process_has_one_set_of_metrics() -> None:
    assert instruments() is instruments()


def test_the_ledger_is_timed_and_its_failures_are_counted(own: Instruments, tmp_path: Path) -> None:
    from sseproxy.ledger.ledger import open_ledger
    from sseproxy.ledger.protocol import LedgerUnavailable

    ledger = open_ledger(f"sqlite:///{tmp_path}/usage.db")
    timed = TimedLedger(ledger, own)
    begun = own.exposition("")[1].decode()
    timed.ping()
    ledger.close()
    (tmp_path / "usage.db").unlink()
    (tmp_path / "usage.db").mkdir()
    with pytest.raises(LedgerUnavailable):
        timed.find_key("0" * 64)

    text = own.exposition("")[1].decode()
    for operation in ("ping", "find_key"):
        assert f'sseproxy_ledger_duration_seconds_count{{operation="{operation}"}} 1.0' in text
    assert re.findall(r'sseproxy_ledger_errors_total\{operation="(\w+)"\} 1.0', text) == ["find_key"]
    assert {"find_key", "settle", "checkpoint", "expire"} <= set(
        re.findall(r'errors_total\{operation="(\w+)"\} 0.0', begun)
    )


def test_every_operation_of_a_ledger_is_handed_on() -> None:
    from sseproxy.ledger.protocol import Ledger

    operations = {name for name in vars(Ledger) if not name.startswith("_")}
    assert operations <= set(vars(TimedLedger))


def test_metrics_of_a_process_that_has_no_thread_left_are_told_once_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "shared")
    own = Instruments(CollectorRegistry())
    begun: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", none_left)
    own.ease()
    monkeypatch.setattr(threading.Thread, "start", lambda thread: begun.append(thread))
    own.ease()
    own.ease()

    assert [thread.name for thread in begun] == ["sseproxy-metrics"]
