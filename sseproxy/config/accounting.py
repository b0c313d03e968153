"""The section ``accounting``: where the books are."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema

from sseproxy.config.section import Section
from sseproxy.config.values import Duration, Expected, Text

DEFAULT = "sqlite:///usage.db"


def _database(value: object) -> object:
    """The message does not repeat the address: it may hold a password."""
    if not isinstance(value, (str, SecretStr)):
        raise Expected("expected a database address in quotes, such as sqlite:///usage.db")
    return value


def _known(value: SecretStr) -> SecretStr:
    if not re.match(r"(sqlite|postgresql)(\+\w+)?://", value.get_secret_value()):
        raise Expected("expected a database address, such as sqlite:///usage.db or postgresql://HOST/NAME")
    return value


Database = Annotated[SecretStr, BeforeValidator(_database), AfterValidator(_known), WithJsonSchema({"type": "string"})]


class Accounting(Section):
    """Where the books are."""

    ledger: Database = Field(
        default_factory=lambda: SecretStr(DEFAULT),
        json_schema_extra={"default": DEFAULT},
        description="Database of charges and keys; a relative SQLite path is relative to the working directory.",
    )
    client_gone: Literal["cancel", "drain"] = Field(
        default="cancel",
        description="When a client leaves: cancel (hang up, bill what was seen) or drain (read on to the exact usage).",
    )
    drain_limit: Duration = Field(default=30.0, description="How long drain reads on at most.")
    on_ledger_down: Literal["refuse", "serve"] = Field(
        default="refuse",
        description="While the ledger is away: refuse (503), or serve (journal to disk, settle later, no budgets).",
    )
    journal: Text = Field(
        default="usage.journal",
        description="File for what ends while the ledger is away; relative to the working directory.",
    )
