"""The section ``upstreams``: where answers come from."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, WithJsonSchema, model_validator

from sseproxy.config.http_address import http_parts
from sseproxy.config.section import Section
from sseproxy.config.values import Duration, Expected, Flag, Text, Whole, kind, within
from sseproxy.core.chat import API_PATHS
from sseproxy.core.http_fields import HOP_BY_HOP, TOKEN

# RFC 9110, 5.5: what is no such value could add headers of its own.
_FIELD_VALUE = re.compile(r"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")
#: Fields that belong to one connection or to the message's framing (RFC 9112, 6); a proxy's credentials may be set.
_FRAMING = HOP_BY_HOP - {"proxy-authorization"} | {"content-length", "host"}
_PATH = re.compile(r"/v1(?:/[A-Za-z0-9._~:@!$&'()+,;=-]+)+")


def _field_value(value: object) -> object:
    """A header's value as it may be sent. The message does not repeat it: it is most likely a key."""
    if not isinstance(value, str):
        raise Expected(f"expected text, not {kind(value)}; put it in quotes")
    if value and not _FIELD_VALUE.fullmatch(value):
        raise Expected("expected a header value: one line without control characters or blanks around it")
    return value


Secret = Annotated[SecretStr, BeforeValidator(_field_value), WithJsonSchema({"type": "string"})]


def _no_empty(value: SecretStr | None) -> SecretStr | None:
    return value if value is not None and value.get_secret_value() else None


def _headers(headers: object) -> object:
    """Looks at the names first: one without a blank after its colon holds the value, and no message may name it."""
    seen: set[str] = set()
    for name in map(str, headers if isinstance(headers, dict) else ()):
        if not TOKEN.fullmatch(name):
            raise Expected("expected header names of letters, digits and hyphens, with a blank after their colon")
        if name.lower() in _FRAMING:
            raise Expected(f"{name} is made for each connection and cannot be set")
        if name.lower() in seen:
            raise Expected(f"{name} is given twice")
        seen.add(name.lower())
    return headers


def _url(value: str) -> str:
    expected = "expected an http:// or https:// address, such as https://api.openai.com/v1"
    if re.search(r"[\s\x00-\x1f\x7f]", value):
        raise Expected(f"{expected}, without blanks")
    parts = http_parts(value)
    if parts is None:
        raise Expected(expected)
    if parts.username is not None or parts.password is not None:
        raise Expected("credentials do not belong in the address; use api_key or headers")
    if "?" in value or "#" in value:
        raise Expected("expected the base address without a query or fragment")
    base = value.rstrip("/")
    if base.endswith(("/chat/completions", *API_PATHS)):  # /embeddings alone may be a host, or a gateway's path
        raise Expected("expected the base address, to which the proxy adds /chat/completions and its like")
    return base


def _proxy(value: SecretStr | None) -> SecretStr | None:
    """The message does not repeat the address: it may hold a password."""
    if value is None:
        return None
    parts = http_parts(value.get_secret_value())
    if parts is None or parts.path.strip("/") or parts.query or parts.fragment:
        raise Expected("expected the http:// or https:// address of a proxy, such as http://proxy.example:3128")
    return value


def _ca_file(value: str, info: ValidationInfo) -> str:
    path = FilePath((info.context or {}).get("directory", ".")) / value
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError as error:  # ssl.SSLError is one
        reason = "holds no certificates in PEM" if isinstance(error, ssl.SSLError) else error.strerror or error
        raise Expected(f"{value} cannot be used: {reason}") from None
    return str(path)


def _application(value: object) -> object:
    """Import now what will be needed then: a typing error shall not wait for the first request."""
    if value is not None and not callable(value):
        load_application(value)
    return value


def load_application(name: object) -> Callable[..., Any]:
    """The WSGI application that ``package.module:attribute`` names.

    :raises Expected: if it cannot be imported or is not callable.
    """
    from importlib import import_module

    expected = 'expected "package.module:attribute" of a WSGI application'
    if not isinstance(name, str) or not re.fullmatch(r"[\w.]+:[\w.]+", name):
        raise Expected(expected, f"{name}:app" if isinstance(name, str) and re.fullmatch(r"[\w.]+", name) else None)
    module, _, attribute = name.partition(":")
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # an import runs anybody's code
        raise Expected(f"{name} cannot be imported: {type(error).__name__}: {error}") from None
    if not callable(found):
        raise Expected(f"{name} is not callable; {expected}")
    application: Callable[..., Any] = found
    return application


_LLM_TOO = ("/v1/deployments/", "/v1/v1/")
"""Where the LLM paths are once more: Azure's below a deployment."""


def _passthrough(value: str) -> str:
    """The path with ``/v1`` before it, however it was written."""
    path = "/" + value.strip().removeprefix("/").removeprefix("v1/")
    path = f"/v1{path}"
    named = path.removesuffix("/*")
    if not _PATH.fullmatch(named) or any(part in (".", "..") for part in named.split("/")):
        raise Expected("expected a path under /v1/, such as /v1/files, or /v1/files/* for all below it")
    if path != named and any(api.startswith(f"{named.lower()}/") for api in (*API_PATHS, *_LLM_TOO)):
        raise Expected(f"expected no LLM path below {named}: such a request is to be billed")
    return path


class Timeout(Section):
    """How long to wait for an upstream."""

    connect: Duration = Field(
        default=5.0,
        description="For the connection, TLS, a proxy's tunnel and all addresses of the name together; then 504. "
        "Looking the name up, before that, takes the time that the system's resolver takes (`resolv.conf`).",
    )
    first_byte: Duration = Field(
        default=60.0, description="From the request to the first byte of the answer; then 504."
    )
    idle: Duration = Field(default=60.0, description="Between two reads of a running answer; then an error event.")
    total: Duration = Field(default=900.0, description="For the whole exchange; then 504 or an error event.")


class DialectOf(Section):
    """How an upstream departs from OpenAI's form where its bytes alone do not tell."""

    cumulative: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Each chunk repeats all the text before it (some DashScope paths). `auto`: undone only on "
        "evidence that chance cannot give; `always`, of the arguments of tool calls too; `never`.",
    )
    think_tags: Flag = Field(
        default=False,
        description="Move what stands between `<think>` and `</think>` in the text to `reasoning_content`. Off, "
        "because a model may also write about these tags.",
    )
    reasoning_in_total: Flag = Field(
        default=True,
        description="Bill what `total_tokens` counts beyond prompt and completion as output (Gemini's reasoning).",
    )


class Upstream(Section):
    """One place where answers come from: an HTTP endpoint or a WSGI application, exactly one of them."""

    EXAMPLE = '`{url: "https://api.openai.com/v1"}`'

    url: Annotated[Text, AfterValidator(_url)] | None = Field(
        default=None,
        description="Base address of an OpenAI-compatible API, with its `/v1`; http or https, no credentials, no "
        "query.",
    )
    wsgi: Annotated[Any, BeforeValidator(_application), WithJsonSchema({"type": "string"})] = Field(
        default=None,
        description="WSGI application in this process, `package.module:attribute`; modules of the working "
        "directory are found. In Python, the application itself is fine too.",
    )
    api_key: Annotated[Secret | None, AfterValidator(_no_empty)] = Field(
        default=None,
        description="Sent as `Authorization: Bearer`, to Azure as `api-key`; clients never see it, and theirs is "
        "never sent on.",
    )
    headers: Annotated[dict[str, Secret], BeforeValidator(_headers)] = Field(
        default_factory=dict, description="Further headers of every request."
    )
    timeout: Timeout = Field(default_factory=Timeout, description="How long to wait.")
    flavor: Literal["openai", "azure"] = Field(
        default="openai",
        description="`openai`: this and everything that copies it. `azure`: `url` is the resource "
        "(`https://NAME.openai.azure.com`), models are deployments. Azure's newer `/openai/v1` is "
        "`openai` with the key under `headers: {api-key: …}`.",
    )
    api_version: Text | None = Field(
        default=None, description="`api-version` for `flavor: azure`. Without it: the newest stable one."
    )
    proxy: Annotated[Secret | None, AfterValidator(_no_empty), AfterValidator(_proxy)] = Field(
        default=None,
        description="HTTP proxy to go through, `http://USER:PASSWORD@HOST:PORT`, best as `${HTTPS_PROXY}`. "
        "`HTTP_PROXY` and its like are not used by themselves: they could lead keys astray unseen.",
    )
    ca_file: Annotated[Text, AfterValidator(_ca_file)] | None = Field(
        default=None,
        description="PEM file of the certificates to trust, relative to the configuration file. Verification "
        "cannot be switched off. Without it: the public ones (certifi).",
    )
    retries: Annotated[Whole, within(0, 10, "retries")] = Field(
        default=2, description="How often a request that failed before its first event is sent here again."
    )
    cooldown: Duration = Field(
        default=10.0,
        description="How long this upstream is left alone after five requests in a row failed; doubles up to `2m`, "
        "until one request succeeds.",
    )
    include_usage: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="Ask for token usage in streams. `auto`: ask; if a 400 or 422 names it, repeat without "
        "and, if that is answered, remember that for the model. `always`, `never`.",
    )
    passthrough: tuple[Annotated[Text, AfterValidator(_passthrough)], ...] = Field(
        default=(),
        description="Further paths under `/v1/` (with or without it) to hand on as they are: authenticated and "
        "recorded, charged at 0. Each is one path exactly; `files/*` is all that lies below `files`. What the "
        "upstream keeps there, all users share. Every other path is 404.",
    )

    dialect: DialectOf = Field(
        default_factory=DialectOf, description="What only you can know of how this upstream answers."
    )

    @model_validator(mode="after")
    def _fitting(self) -> Upstream:
        if self.api_version is not None and self.flavor != "azure":
            raise Expected("api_version is for flavor: azure")
        return self

    @property
    def application(self) -> Callable[..., Any] | None:
        """The WSGI application, if this upstream is one."""
        application: Callable[..., Any] | None = self.wsgi
        return load_application(self.wsgi) if isinstance(self.wsgi, str) else application
