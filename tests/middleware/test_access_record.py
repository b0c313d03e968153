"""A record of the access log is what the standard library would have made."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from sseproxy.middleware.access_record import access_record

LOG = logging.getLogger("tests.access")
SWITCHES = ("logThreads", "logProcesses", "logMultiprocessing")
OF_THE_MOMENT = {"created", "msecs", "relativeCreated"}


@pytest.fixture(autouse=True)
def _switches() -> Iterator[None]:
    before = {name: getattr(logging, name) for name in SWITCHES}
    yield
    for name, value in before.items():
        setattr(logging, name, value)
    logging.setLogRecordFactory(logging.LogRecord)


def made(text: str) -> logging.LogRecord:
    return LOG.makeRecord(LOG.name, logging.INFO, "", 0, text, (), None)


@pytest.mark.parametrize("wanted", [(), ("logProcesses",), SWITCHES, ("logThreads",), ("logMultiprocessing",)])
def test_it_has_all_that_a_record_has(wanted: tuple[str, ...]) -> None:
    for name in SWITCHES:
        setattr(logging, name, name in wanted)
    record, other = vars(access_record(LOG, "a=b")), vars(made("a=b"))

    assert record.keys() == other.keys()
    where = {"pathname", "filename", "module"}
    same = record.keys() - OF_THE_MOMENT - where
    assert {name: record[name] for name in same} == {name: other[name] for name in same}
    assert record["module"] == "access_record"
    assert 0 <= other["created"] - record["created"] < 60
    assert 0 <= other["relativeCreated"] - record["relativeCreated"] < 60_000
    assert int(record["created"] * 1000) % 1000 - record["msecs"] in (-1, 0, 1)


def test_one_record_is_not_the_next() -> None:
    logging.logThreads = logging.logMultiprocessing = False
    first, second = access_record(LOG, "first"), access_record(LOG, "second")

    assert (first.getMessage(), second.getMessage()) == ("first", "second")


def test_whoever_makes_records_of_its_own_makes_these_too() -> None:
    class Traced(logging.LogRecord):
        trace = "x"

    logging.logThreads = logging.logMultiprocessing = False
    logging.setLogRecordFactory(Traced)

    assert isinstance(access_record(LOG, "a=b"), Traced)
