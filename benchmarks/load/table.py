"""The figures as tables, in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from benchmarks.load.figures import DIRECT, Figures
from benchmarks.load.measure import Run
from benchmarks.load.scenarios import FEW, LONG, MANY, SHORT, SLOW
from benchmarks.load.servers import SSEPROXY
from benchmarks.load.targets import TARGETS, Target

NONE: Final = "–"


def label(server: str) -> str:
    """What a server is called in the results."""
    return f"sseproxy, {server}" if server in SSEPROXY else server


def number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, its first column text and the others numbers."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def figures_table(figures: Figures) -> str:
    """Every figure of every server."""
    rows = [[title, *map(cell, figures.servers)] for title, cell in _rows(figures)]
    shown = [row for row in rows if any(cell != NONE for cell in row[1:])]
    return table(["", *map(label, figures.servers)], shown)


def _rows(figures: Figures) -> Iterator[tuple[str, Callable[[str], str]]]:
    """What each row says of a server."""
    for streams in figures.ladder:
        yield from _rung_rows(figures, streams)
    yield "S2: CPU per event, µs", partial(_cpu, figures, "S2")
    yield "S4: added to the first token, ms: p50; p99", partial(_added, figures, "S4", "first")
    yield "S1: answers per second", lambda server: _plain(figures.per_second(server, "S1"))
    for streams in (FEW, MANY):
        title = f"{streams:,} streams of {SLOW} tokens a second: CPU per event, µs"
        yield title, partial(_cpu, figures, f"slow@{streams}")
    for events in (SHORT, LONG):
        yield f"one answer of {events:,} events: CPU per event, µs", partial(_cpu, figures, f"long@{events}")
    yield "idle memory, MiB", lambda server: _plain(figures.idle_memory(server))
    yield "streams a core carries", lambda server: _plain(figures.streams_per_core(server))
    yield "streams a GiB carries", lambda server: _plain(figures.streams_per_gib(server))


def _rung_rows(figures: Figures, streams: int) -> Iterator[tuple[str, Callable[[str], str]]]:
    scenario = f"S3@{streams}"
    yield f"S3, {streams:,} streams: CPU per event, µs", partial(_cpu, figures, scenario)
    yield "… added to a token, ms: p50; p99", partial(_added, figures, scenario, "event")
    yield "… added to the first one, ms: p50; p99", partial(_added, figures, scenario, "first")
    yield "… memory per stream, KiB", lambda server: _plain(figures.memory(server, streams))


def targets_table(figures: Figures) -> str:
    """Each target, met or missed, for the servers of sseproxy."""
    servers = [name for name in figures.servers if name in SSEPROXY]
    rows = [[target.text, *[_verdict(figures, target, server) for server in servers]] for target in TARGETS]
    return table(["target", *map(label, servers)], rows)


def _plain(value: float | None) -> str:
    return NONE if value is None else number(value)


def _cpu(figures: Figures, scenario: str, server: str) -> str:
    run, ratio = figures.runs.get(server, {}).get(scenario), figures.ratio(server, scenario)
    if run is None:
        return NONE
    if run["errors"]:
        return _faults(run)
    beside = "" if ratio is None or ratio == 1 else f" ({ratio:.2f} ×)"
    return number(run["cpu_per_event"]) + beside + ("" if run["held"] else ", late")


def _added(figures: Figures, scenario: str, what: str, server: str) -> str:
    if DIRECT not in figures.runs:
        return NONE
    values = [figures.added(server, scenario, what, quantile) for quantile in ("p50", "p99")]
    return "; ".join(number(value) for value in values if value is not None) or NONE


def _faults(run: Run) -> str:
    kinds = ", ".join(f"{count} {name}" for name, count in run["faults"].items() if count)
    return f"errors: {kinds}"


def _verdict(figures: Figures, target: Target, server: str) -> str:
    value = target.value(figures, server)
    if value is None:
        return "**missed**" if figures.failed(server, target.needs) else NONE
    return f"{number(value)}{target.unit} {'met' if target.is_met(value, server) else '**missed**'}"
