"""The command ``sseproxy``. One file per kind of command; what a command needs is imported when it runs.

Exit codes: 0 done, 1 what was asked for cannot be done now, 2 wrong configuration or arguments.
"""

from __future__ import annotations

import io
import os
import sys

import click

from sseproxy._version import __version__
from sseproxy.cli.check import check, schema
from sseproxy.cli.doctor import doctor
from sseproxy.cli.keys import keys
from sseproxy.cli.prices import prices
from sseproxy.cli.reports import charges, usage
from sseproxy.cli.serve import serve


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sseproxy")
def main() -> None:
    """A proxy for OpenAI-compatible APIs: clean event streams, and books you can prove."""
    # Names come from clients: a letter that the terminal's encoding lacks is no reason to stop amid a table.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # So that `wsgi: "myapp:app"` finds myapp.py here, as with flask and gunicorn; last, so that it hides nothing.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


for command in (serve, check, schema, keys, usage, charges, prices, doctor):
    main.add_command(command)
