"""The section ``server``: where the proxy listens and how much it takes on."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from sseproxy.config.section import Section
from sseproxy.config.values import Duration, Expected, Size, Text, Whole, within

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_.-]+|\*)):(?P<port>\d{1,5})")

_NAME = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


def split_address(address: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPv6]:PORT`` in its two parts; ``*`` is every address of the machine.

    :raises Expected: if it is neither, or the port is none.
    """
    match = _ADDRESS.fullmatch(address.strip())
    if match and int(match["port"]) < 65536:
        return match["six"] or match["host"], int(match["port"])
    port = address.strip().lstrip(":")
    bare = port.isdigit() and int(port) < 65536
    raise Expected("expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080", f"127.0.0.1:{port}" if bare else None)


def normal_address(value: str) -> str:
    """``value`` as ``HOST:PORT`` without blanks and leading zeros.

    :raises Expected: if it is no address.
    """
    host, port = split_address(value)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bare_port(value: object) -> object:
    """A number is a port without its host, and told so."""
    return str(value) if type(value) is int else value


def _network(value: object) -> object:
    if isinstance(value, str):
        with suppress(ValueError):
            return str(ip_network(value.strip(), strict=False))
    raise Expected("expected an address or a network, such as 127.0.0.1 or 10.0.0.0/8")


Network = Annotated[str, BeforeValidator(_network), WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8"]})]


def _host(value: object) -> object:
    text = value.strip().lower() if isinstance(value, str) else ""
    if _NAME.fullmatch(text):
        return text
    bare = re.sub(r"\A[a-z]+://|[:/].*", "", text)
    raise Expected(
        "expected a host name without scheme and port, such as llm.example.com, or *.example.com for all below it",
        bare if _NAME.fullmatch(bare) else None,
    )


Host = Annotated[str, BeforeValidator(_host), WithJsonSchema({"type": "string", "examples": ["llm.example.com"]})]


class Server(Section):
    """Where the proxy listens and how much it takes on."""

    listen: Annotated[Text, BeforeValidator(_bare_port), AfterValidator(normal_address)] = Field(
        default="127.0.0.1:8080",
        description="`HOST:PORT` or `[IPv6]:PORT`; host `*` is every address of the machine, port 0 any free one. "
        "`--listen` goes before it.",
    )
    threads: Annotated[Whole, within(1, 10_000, "threads")] = Field(
        default=64,
        description="Threads that answer requests; each running stream holds one. As many requests more wait for one, "
        "then the answer is 503 (gthread: all wait).",
    )
    trusted_proxy: Network | None = Field(
        default=None,
        description="The proxy in front, as an address or a network (10.0.0.0/8): what it says in `X-Forwarded-For`, "
        "`-Proto`, `-Host` and `-Prefix` is believed. Of anybody else it is ignored.",
    )
    allowed_hosts: tuple[Host, ...] = Field(
        default=(),
        description="Names by which this is asked for, `llm.example.com`, or `*.example.com` for all below one; "
        "others are refused with 403. Addresses and `localhost` need not be listed. Empty: any name. List "
        "them where `auth.required` is `false`, or a web page that points its own name here can ask, too.",
    )
    max_body: Size = Field(
        default=10 * 1024 * 1024, description="Longest request body; a longer one is refused with 413."
    )
    shutdown_grace: Duration = Field(
        default=30.0,
        description="How long running answers may go on after SIGTERM; then each ends with an error event.",
    )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        host, _ = split_address(self.listen)
        return host in ("localhost", "::1") or host.startswith("127.")
