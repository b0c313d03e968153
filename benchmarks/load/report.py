"""What ``benchmarks/streams.py`` leaves: the figures as JSON, the tables as Markdown, the plot as SVG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from benchmarks.load.figures import Figures
from benchmarks.load.plot import plot
from benchmarks.load.servers import SSEPROXY
from benchmarks.load.table import figures_table, label, targets_table

NOISE: Final = 0.1
"""Share of the proxy's CPU that others may have before a run is called noisy."""


def write(result: dict[str, Any], directory: Path) -> str:
    """The three files; the text of the second."""
    figures = Figures(result["servers"])
    lines = {label(name): _points(figures, name) for name in figures.servers}
    text = report(result, figures)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "streams.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    (directory / "streams.md").write_text(text, "utf-8")
    if any(lines.values()):
        picture = plot("CPU time per event, microseconds", "streams at once, 50 tokens a second each", lines)
        (directory / "streams.svg").write_text(picture, "utf-8")
    return text


def _points(figures: Figures, server: str) -> list[tuple[float, float]]:
    costs = [(float(streams), figures.cpu(server, f"S3@{streams}")) for streams in figures.ladder]
    return [(streams, cost) for streams, cost in costs if cost]


def report(result: dict[str, Any], figures: Figures) -> str:
    """Everything in Markdown."""
    machine = "; ".join(f"{name}: {value}" for name, value in result["machine"].items())
    notes = [] if result["urgent"] else ["The clients could not be given precedence (needs root): times are too high."]
    if figures.foreign > NOISE:
        notes.append(f"**Others took up to {figures.foreign:.0%} of the proxy's CPU meanwhile: measure again.**")
    return f"""# What a stream costs

Made on {result["date"]} by `{result["command"]}`; medians of {result["reps"]}. {machine}.

CPU is that of the proxy's processes, user and system; in brackets the ratio to nginx. What is *added* is beyond what
no proxy takes. sseproxy has everything on (keys, budget, prefix, prices, ledger, log, metrics) in one process with
{result["threads"]} threads, nginx only relays and checks the key. Ratios count: absolute figures move with the machine.
{" ".join(notes)}

{figures_table(figures)}
S1: answers in one piece, 16 at once. S2: 200 tokens as fast as they go, 16 at once. S3: 50 tokens a second each.
S4: one client. Memory is what the processes grew by since they were idle; waitress has its threads from the start,
gthread makes them when needed. What a core carries is at 50 tokens a second, by the CPU per event of the most streams
that were held; what a GiB carries, likewise.

![CPU per event over the number of streams](streams.svg)
{_targets(figures)}"""


def _targets(figures: Figures) -> str:
    return f"\n## Targets\n\n{targets_table(figures)}" if set(figures.servers) & set(SSEPROXY) else ""
