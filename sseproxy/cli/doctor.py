"""``sseproxy doctor``: what is wrong with the path to a deployed proxy, as a table or as JSON."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from sseproxy.cli.output import format_option, print_wide
from sseproxy.cli.source import config_option
from sseproxy.core.printable import printable

if TYPE_CHECKING:
    from sseproxy.doctor import Finding, Report

#: Seconds of silence that are tried by default; time-outs of five or ten seconds show, and it is over soon.
QUICK: Final = 12.0
COLORS: Final = {"ok": "green", "note": "cyan", "warning": "yellow", "fault": "red"}


@click.command()
@config_option
@click.argument("url")
@click.option("--key", envvar="SSEPROXY_KEY", metavar="KEY", help="Any valid API key. Default: $SSEPROXY_KEY.")
@click.option(
    "--idle",
    type=click.FloatRange(1, 600),
    default=QUICK,
    show_default=True,
    metavar="SECONDS",
    help="Silence that a stream has to survive; the doctor takes a little longer.",
)
@partial(format_option, formats=["table", "json"])
def doctor(file: str | None, url: str, key: str | None, idle: float, style: str) -> None:
    """Tell whether streams come through the deployed path at URL.

    Reads canned ones, and names each fault of the path with its cure. Asks no upstream and costs nothing. Exit code 0:
    all is right, 1: faults were found, 2: it could not be tested.
    """
    from sseproxy.doctor import Report, Untestable, examine
    from sseproxy.doctor.target import Target

    # -c is taken so that every command takes it; what is examined is a URL, wherever its configuration lies.
    try:
        target = Target.of(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="URL") from None
    if key and not (key.isascii() and key.isprintable()):
        raise click.BadParameter("expected printable ASCII characters", param_hint="--key")
    if style == "table":
        click.echo(f"sseproxy: reading canned streams from {target.url}, about {idle + 3:.0f} s", err=True)
    try:
        report, code = examine(target, key, idle=idle), 0
    except Untestable as error:
        report, code = Report(target.url, [], [error.finding]), 2
    _show(report, style)
    raise click.exceptions.Exit(code or (1 if report.faults else 0))


def _show(report: Report, style: str) -> None:
    if style == "json":
        click.echo(json.dumps(report.as_json(), ensure_ascii=False, indent=2))
        return
    _show_table(report.findings)
    fronts = f" (through {', '.join(report.fronts)})" if report.fronts else ""
    if not report.faults:
        click.echo(f"All is right: streams reach clients of {report.url}{fronts} as they are sent.")
        return
    click.echo(f"{len(report.faults)} to cure at {report.url}{fronts}:")
    for number, finding in enumerate(report.faults, 1):
        click.echo(f"\n{number}. {finding.check}: {printable(finding.message)}\n   Cure: {printable(finding.cure)}")


def _show_table(findings: list[Finding]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    for column in ("check", "", "seen"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        # Text, not str: what a server says is no markup.
        status = Text(finding.status, style=COLORS[finding.status])
        table.add_row(Text(finding.check), status, Text(printable(finding.message)))
    print_wide(table)
