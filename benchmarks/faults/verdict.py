"""Holds the books against the truth: rows of the ledger, the upstream's account, what the clients saw. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from benchmarks.faults.streams import ENDINGS, KILLED, Stream

PRICE: Final = {"input": "1", "output": "2"}
COUNTED_MAY_DIFFER: Final = 0.02
#: From a stream's end until its charge must be settled, seconds: in between, a kill may still hit it.
_SETTLING: Final = 3.0
#: A killed process takes a moment to be gone, in which connections still get through to it.
_DYING: Final = 1.0
_NOTHING: Final = {"seen": 0, "input": 0, "output": 0, "reported": False, "refused": True}


@dataclass
class Line:
    """The sums of one ending."""

    name: str
    streams: int = 0
    lost: int = 0
    doubled: int = 0
    reported: int = 0
    reported_wrong: int = 0
    counted: int = 0
    output: int = 0
    output_off: int = 0
    input: int = 0
    input_off: int = 0
    behind: float = 0.0
    owed: Decimal = Decimal(0)
    money_off: Decimal = Decimal(0)

    @property
    def output_error(self) -> float:
        return self.output_off / self.output if self.output else float(self.output_off > 0)

    @property
    def input_error(self) -> float:
        return self.input_off / self.input if self.input else float(self.input_off > 0)


@dataclass
class Verdict:
    """The lines of the table, and every broken promise in words."""

    lines: dict[str, Line]
    broken: list[str] = field(default_factory=list)
    never_accepted: int = 0
    log: str = ""

    @property
    def total(self) -> Line:
        total = Line("all")
        for line in self.lines.values():
            for name, amount in vars(line).items():
                if name in ("streams", "lost", "doubled") or (name != "name" and line.name != KILLED):
                    setattr(total, name, getattr(total, name) + amount)
        return total


def judge(
    streams: Sequence[Stream],
    truth: Mapping[str, Mapping[str, Any]],
    charges: Sequence[Mapping[str, Any]],
    kills: Sequence[float],
    running: Sequence[str] = (),
) -> Verdict:
    """Compare stream by stream.

    :param kills: when (monotonic) a process was killed; an exchange that ran then may have been its.
    :param running: what the upstream was still working at long after the last client had left.
    """
    verdict = Verdict({name: Line(name) for name in [each.name for each in ENDINGS] + [KILLED]})
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in charges:
        rows.setdefault(row["model"], []).append(row)
    for stream in streams:
        hit = any(stream.began - _DYING <= kill <= stream.ended + _SETTLING for kill in kills)
        _judge_one(verdict, stream, truth.get(stream.model), rows.pop(stream.model, []), hit)
    verdict.broken += [f"{model}: a charge for nobody's request" for model in rows]
    verdict.broken += [f"{model}: its upstream works on, though its client left long ago" for model in running]
    for line in verdict.lines.values():
        if line.name != KILLED and max(line.output_error, line.input_error) > COUNTED_MAY_DIFFER:
            verdict.broken.append(f"{line.name}: counted tokens are off by more than {COUNTED_MAY_DIFFER:.0%}")
    return verdict


def _judge_one(
    verdict: Verdict, stream: Stream, seen: Mapping[str, Any] | None, rows: list[Mapping[str, Any]], hit: bool
) -> None:
    def complain(what: str) -> None:
        shown = [{name: row[name] for name in _SHOWN} for row in rows]
        verdict.broken.append(f"{stream.model} ({stream.ending.name}, client saw {stream.saw}): {what}; {seen} {shown}")

    expired = bool(rows) and rows[0]["state"] == "expired"
    if not rows and seen is None:
        verdict.never_accepted += 1
        if not hit and stream.ending.leave != "once":
            complain("was not accepted, though nobody was killed")
        return
    line = verdict.lines[KILLED if expired or (not rows and hit) else stream.ending.name]
    line.streams += 1
    if not rows or rows[0]["state"] == "pending":
        line.lost += 1
        return complain("lost")
    if len(rows) > 1:
        line.doubled += len(rows) - 1
        return complain("doubled")
    row = rows[0]
    tries = sum(each["reached"] for each in row["tries"])
    if seen is not None and seen["seen"] > tries and not expired:
        complain(f"was sent {seen['seen']} times, and its charge says {tries}")
    if expired and (not hit or stream.saw == "done"):
        complain("expired, though nobody was killed")
    if expired and seen is not None:
        line.behind = max(line.behind, (seen["output"] - row["output_tokens"]) * stream.interval)
    _compare(line, row, seen or _NOTHING, complain)
    state, becomes = "settled", stream.ending.becomes
    if seen is None and stream.ending.leave == "once":  # the client had left before its turn came
        state, becomes = "released", {("client_gone", "none")}
    elif isinstance(stream.ending.upstream, int):
        state = "released"
    if not expired and (row["state"] != state or (row["outcome"], row["usage_source"]) not in becomes):
        complain(f"expected {state}, {sorted(becomes)}")
    if not hit and stream.saw == "broken":
        complain("the connection broke, though nobody was killed")


_SHOWN: Final = ("id", "state", "outcome", "usage_source", "input_tokens", "output_tokens", "cost_usd", "status")


def _compare(line: Line, row: Mapping[str, Any], seen: Mapping[str, Any], complain: Any) -> None:
    free = seen["refused"]
    given, made = (0, 0) if free else (seen["input"], seen["output"])
    input_off, output_off = abs(row["input_tokens"] - given), abs(row["output_tokens"] - made)
    cost, owed = Decimal(row["cost_usd"]), _cost(given, made)
    if cost != _cost(row["input_tokens"], row["output_tokens"]):
        complain("the cost is not that of the tokens")
    line.owed += owed
    line.money_off += abs(cost - owed)
    if row["usage_source"] == "reported":
        line.reported += 1
        line.reported_wrong += input_off + output_off
        if input_off or output_off:
            complain("reported tokens are off")
    elif row["usage_source"] == "none" and row["state"] != "expired":
        if cost or not free:
            complain("what was made is not charged")
    else:
        line.counted += 1
        line.input, line.output = line.input + given, line.output + made
        line.input_off, line.output_off = line.input_off + input_off, line.output_off + output_off


def _cost(given: int, made: int) -> Decimal:
    return (given * Decimal(PRICE["input"]) + made * Decimal(PRICE["output"])) / 10**6
