"""The section ``accounting``: where the books are."""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema

from sseproxy.config.address import check_postgresql
from sseproxy.config.section import Section
from sseproxy.config.values import Duration, Expected, Flag, Text

DEFAULT = "sqlite:///usage.db"


def _database(value: object) -> object:
    """The message does not repeat the address: it may hold a password."""
    if not isinstance(value, (str, SecretStr)):
        raise Expected("expected a database address in quotes, such as sqlite:///usage.db")
    return value


def _known(value: SecretStr) -> SecretStr:
    address = value.get_secret_value()
    if re.match(r"(postgres|postgresql(\+psycopg)?)://", address):
        check_postgresql(address)
    elif re.match(r"sqlite://[^/]", address):
        raise Expected("expected three slashes before the name of a file, or four: sqlite:///usage.db")
    elif not address.startswith("sqlite://"):
        raise Expected("expected a database address, such as sqlite:///usage.db or postgresql://HOST/NAME")
    return value


def _file(value: str) -> str:
    if os.path.isdir(value or "."):
        raise Expected("expected the name of a file, such as usage.journal, that is no folder")
    return value


Database = Annotated[SecretStr, BeforeValidator(_database), AfterValidator(_known), WithJsonSchema({"type": "string"})]


class Accounting(Section):
    """Where the books are."""

    ledger: Database = Field(
        default_factory=lambda: SecretStr(DEFAULT),
        json_schema_extra={"default": DEFAULT},
        description="Database of charges and keys, made and migrated on start. `sqlite:///usage.db` is relative to "
        "the working directory, `sqlite:////var/lib/sseproxy/usage.db` is absolute. "
        "`postgresql://USER:PASSWORD@HOST/NAME` (or `postgres://`) needs the extra `[postgres]`; what a password holds "
        "of `/ @ # ? [ ]` is percent-encoded in every address, `%40` for `@`.",
    )
    client_gone: Literal["cancel", "drain"] = Field(
        default="cancel",
        description="When a client leaves mid-answer: `cancel` hangs up on the upstream and bills what was seen "
        "(after the finish reason has passed, it waits up to a second for the reported usage); `drain` "
        "reads on to the exact usage.",
    )
    drain_limit: Duration = Field(
        default=30.0,
        description="How long `drain` reads on at most; a budget that is used up ends it too.",
    )
    on_ledger_down: Literal["refuse", "serve"] = Field(
        default="refuse",
        description="While the database is away: `refuse` answers new requests with 503; `serve` lets them in and "
        "writes their charges to the journal. Budgets cannot be checked then, and keys made by "
        "command cannot be looked up (503); keys of this file and JSON Web Tokens get through.",
    )
    store_content: Flag = Field(
        default=False,
        description="Keep each request and answer beside its charge, in the same database, for ever: "
        "`sseproxy charges --content` shows them. Embeddings are not kept.",
    )
    journal: Annotated[Text, AfterValidator(_file)] = Field(
        default="usage.journal",
        description="File, relative to the working directory, for what ends while the database is away, with "
        "either setting; no file is made before. It is booked within seconds after the database "
        "answers again, by this process or the next that starts: nothing is lost by kill -9, nothing "
        "is booked twice. On a disk that lasts; one file for each ledger, shared by all processes of "
        "the machine. Several machines: bring one that crashed back soon, or its running charges "
        "expire at their last checkpoint first. Lines that cannot be booked are kept in `….rejected`. "
        "Not on Windows.",
    )
