"""``sseproxy serve``: runs the proxy, and says how to try it while it is the demo."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import click

from sseproxy import hangup
from sseproxy.cli.source import config_option, fail, load_config

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from sseproxy.config import Config
    from sseproxy.server import WorkerClass


@click.command()
@config_option
@click.option("--listen", metavar="HOST:PORT", help="Instead of server.listen; port 0 is any free one.")
@click.option("--server", type=click.Choice(["waitress", "gunicorn"]), default="waitress", show_default=True)
@click.option("--workers", type=click.IntRange(1, 256), help="Processes; gunicorn only.  [default: 1]")
@click.option(
    "--worker-class",
    type=click.Choice(["waitress", "gthread", "gevent"]),
    default="waitress",
    show_default=True,
    help="What answers in a process of gunicorn: waitress, or gunicorn's own threads or greenlets.",
)
@hangup.noted()
def serve(
    file: str | None,
    listen: str | None,
    server: Literal["waitress", "gunicorn"],
    workers: int | None,
    worker_class: WorkerClass,
) -> None:
    """Run the proxy.

    Prints its address when it accepts connections. SIGTERM or Ctrl-C ends it: running answers may go on for
    server.shutdown_grace, a second signal ends them. SIGHUP loads the configuration again.
    """
    from sseproxy.config.origin import Origin
    from sseproxy.server import ServerError, SetupError
    from sseproxy.server import serve as run
    from sseproxy.server.log import log_warnings, set_up_logging

    config = load_config(file)
    if listen is not None:
        config = _listening_on(config, listen)
    origin = Origin(config.file)
    set_up_logging(config.log.format, config.log.level)
    _tell(f"sseproxy: configuration: {config.source}")
    log_warnings(config)

    def ready(addresses: Sequence[str]) -> None:
        _tell(
            f"sseproxy: listening on {', '.join(addresses)}",
            *demo_lines(config, addresses[0], own_name(), file),
            chat_line(config, addresses[0]),
        )

    def load() -> Config:
        again = origin.load_again()
        set_up_logging(again.log.format, again.log.level)
        return again if listen is None else again.listening_on(listen)

    try:
        run(_build, config, server=server, workers=workers, worker_class=worker_class, ready=ready, load=load)
    except ServerError as error:
        fail(str(error), 2 if isinstance(error, SetupError) else 1)


def _tell(*lines: str) -> None:
    """Print these. That nobody reads them any more, or a full disk cannot take them, is no reason not to serve."""
    try:
        click.echo("\n".join(lines))
    except OSError:
        # What stdout still holds would fail again when the process ends, and be its exit code.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _build(config: Config) -> WSGIApplication:
    """The proxy. Imported late: gunicorn's workers patch what it imports."""
    from sseproxy.app import create_app
    from sseproxy.core.failure import Failure
    from sseproxy.server import ServerError, SetupError

    try:
        return create_app(config)
    except Failure as error:
        raise ServerError(str(error)) from None
    except (ValueError, RuntimeError) as error:
        raise SetupError(str(error)) from None


def _listening_on(config: Config, listen: str) -> Config:
    try:
        return config.listening_on(listen)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--listen") from None


def demo_lines(config: Config, address: str, name: str, file: str | None) -> list[str]:
    """How to see it work, as long as the demo key and the demo upstream are in the configuration.

    :param name: the command to type for this program.
    """
    from sseproxy.config import DEMO_KEY

    if config.demo_model is None:
        return []
    message = {"role": "user", "content": "Hello! What are you?"}
    body = json.dumps({"model": config.demo_model, "stream": True, "messages": [message]})
    curl = f"curl -N {_reachable(address)}/v1/chat/completions -H 'Authorization: Bearer {DEMO_KEY}'"
    usage = f"{name} usage{f' -c {shlex.quote(file)}' if file else ''}"
    return [
        "Watch an answer type itself out, from another terminal:",
        f"  {curl} -H 'Content-Type: application/json' -d {shlex.quote(body)}",
        "Then see what it cost:",
        f"  {usage}",
    ]


def chat_line(config: Config, address: str) -> str:
    """Where the chat page is. Only the demo's key, which is no secret, ever stands in its address."""
    from sseproxy.config import DEMO_KEY

    fragment = "" if config.demo_model is None else f"#key={DEMO_KEY}"
    return f"Chat in a browser: {_reachable(address)}/-/chat{fragment}"


def _reachable(address: str) -> str:
    """A listening address as a browser on this machine can call it."""
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def own_name() -> str:
    """What to type to run this program again from here."""
    called = sys.argv[0]
    if os.path.basename(called) == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m sseproxy"
    found = shutil.which("sseproxy")
    if found and os.path.exists(called) and os.path.samefile(found, called):
        return "sseproxy"
    return shlex.quote(os.path.relpath(called)) if os.path.exists(called) else "sseproxy"
