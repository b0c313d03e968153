"""The section ``users``: who is billed, and the hashes of their keys. A key's plain text ends here."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from sseproxy.config.allowance import BudgetFor, LimitsFor
from sseproxy.config.section import Section
from sseproxy.config.values import Expected, Flag, Text
from sseproxy.core.digest import digest_of

HASH_PREFIX = "sha256:"


def hash_key(value: object) -> str:
    """The SHA-256 of a key in hex, from the key or from ``sha256:<64 hex digits>``.

    A fast hash is right here: keys are random and long, not passwords.

    :raises Expected: if it is neither.
    """
    if not isinstance(value, str):
        raise Expected("expected a key as text in quotes, or sha256:<64 hex digits>")
    if value.startswith(HASH_PREFIX):
        digest = value.removeprefix(HASH_PREFIX).lower()
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise Expected("expected 64 hex digits after sha256:")
        return digest
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise Expected("expected a key of visible ASCII characters without blanks")
    return digest_of(value)


KeyHash = Annotated[str, BeforeValidator(hash_key), WithJsonSchema({"type": "string"})]


class User(Section):
    """Somebody who is billed."""

    EXAMPLE = '`{keys: ["${KEY}"]}`'

    keys: tuple[KeyHash, ...] = Field(
        default=(),
        repr=False,
        description="API keys: `sha256:` and the SHA-256 of the key in hex, or the key itself, best as `${VAR}`; "
        "`sseproxy check` warns of keys in plain text. One key cannot have two users. `printf %s "
        '"$KEY" | sha256sum` makes the hash.',
    )
    admin: Flag = Field(default=False, description="May see everybody's usage.")
    models: tuple[Text, ...] = Field(default=("*",), description="Patterns of the models that this user may ask for.")
    budget: BudgetFor | None = Field(
        default=None,
        description='What this user may spend: `{usd: "5.00", per: month}`. A request is refused with 429 when too '
        "little is left, but for one at a time, which may begin on that, and come to more if it is no stream; a stream "
        "that uses up what is left ends with an error event. Models without a price cost nothing.",
    )
    limits: LimitsFor | None = Field(
        default=None,
        description="How much may be asked for at a time; what is more is refused with 429 and `Retry-After`.",
    )
