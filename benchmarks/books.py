"""Are the books right, whatever happens? ``python benchmarks/books.py [--streams 2000] [--store sqlite] [--markdown]``.

Thousands of streams through real server processes, ended in every way there is while workers die by kill -9; then every
charge is held against the account of the upstream. The exit code is 1 if a promise is broken:

* one charge for each request that was accepted: none lost, none doubled, none left pending;
* where the upstream reported usage, the charge is that, to the token and the nano-USD;
* where it reported none, input and output are counted, each within 2 % of what the upstream knows. What an upstream
  knows of a stream that was broken off are the tokens that it had written when it noticed the hang-up; those that were
  then still on their way are in its account and in no charge, and count as error here;
* what a killed worker was at is charged at the last checkpoint, which is made every second; how much of an answer is
  missing in the worst case is shown, and is in no sum.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.faults.run import postgresql, run_suite  # noqa: E402
from benchmarks.faults.streams import KILLED  # noqa: E402
from benchmarks.faults.verdict import Line, Verdict  # noqa: E402

HEADS = ("ending", "streams", "lost", "doubled", "reported: wrong", "counted: output, input error", "money error")


def cells(line: Line) -> list[str]:
    """One row of the table."""
    reported = f"{line.reported_wrong} tokens in {line.reported}" if line.reported else "–"
    counted = f"{line.output_error:.2%}, {line.input_error:.2%} in {line.counted}" if line.counted else "–"
    if line.name == KILLED:
        counted = f"at most {line.behind:.1f} s of it missing"
    money = f"{line.money_off / line.owed:.2%} of ${line.owed:.4f}" if line.owed else f"${line.money_off:.4f}"
    return [line.name, f"{line.streams}", f"{line.lost}", f"{line.doubled}", reported, counted, money]


def rows(verdict: Verdict) -> list[list[str]]:
    """All rows; those with no stream are left out."""
    return [cells(line) for line in [*verdict.lines.values(), verdict.total] if line.streams]


def show(verdict: Verdict, title: str, markdown: bool, console: Console) -> None:
    """Print the table and what is broken."""
    if markdown:
        print(f"\n**{title}**\n\n| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
        for row in rows(verdict):
            print(f"| {' | '.join(row)} |")
    else:
        table = Table(*HEADS, title=title)
        for row in rows(verdict):
            table.add_row(*row, end_section=row[0] == KILLED)
        console.print(table)
    console.print(f"{verdict.never_accepted} more were killed, or had left, before they were accepted: no charge.")
    if verdict.broken:
        console.print(verdict.log[-4000:], markup=False, highlight=False)
    for complaint in verdict.broken[:20]:
        console.print(f"BROKEN: {complaint}", markup=False, style="red", soft_wrap=True)
    console.print(f"{len(verdict.broken)} broken promises", style="red" if verdict.broken else "green")


@contextlib.contextmanager
def store(name: str) -> Iterator[str]:
    """The URL of an empty database."""
    if name == "postgresql":
        with postgresql() as url:
            yield url
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/usage.db"


def main() -> int:
    """Run on each store; 1 if a promise was broken on any."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--streams", type=int, default=2000, help="per store (default 2000)")
    parser.add_argument("--store", action="append", choices=["sqlite", "postgresql"], help="default: both")
    parser.add_argument("--server", default="workers", choices=["workers", "gthread", "gevent", "waitress"])
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=48, help="streams at a time (default 48)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", action="store_true", help="a table to paste")
    options = parser.parse_args()
    console = Console(stderr=options.markdown)
    console = console if console.is_terminal else Console(stderr=options.markdown, width=130)
    broken = 0
    for name in options.store or ["sqlite", "postgresql"]:
        began = time.monotonic()
        with store(name) as url, Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=options.streams)
            verdict = run_suite(
                options.streams,
                url,
                seed=options.seed,
                server=options.server,
                workers=options.workers,
                clients=options.clients,
                progress=lambda done, bar=bar, task=task: bar.update(task, completed=done),  # type: ignore[misc]
            )
        title = f"{name}, {options.server}: {options.streams} streams in {time.monotonic() - began:.0f} s"
        show(verdict, title, options.markdown, console)
        broken += len(verdict.broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
