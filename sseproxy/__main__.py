"""``python -m sseproxy``: the command line without the script that pip installs."""

from __future__ import annotations

from sseproxy.cli import main

if __name__ == "__main__":
    main(prog_name="python -m sseproxy")
