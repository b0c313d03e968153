"""The section ``limits``: where limits are counted. What they are stands with each user."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema

from sseproxy.config.address import check_redis
from sseproxy.config.section import Section
from sseproxy.config.values import Expected

DEFAULT = "memory://"


def _store(value: object) -> object:
    """The message does not repeat the address: it may hold a password."""
    if not isinstance(value, (str, SecretStr)):
        raise Expected("expected memory:// or a Redis address in quotes, such as redis://HOST:6379/0")
    return value


def _known(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"memory://|(rediss?|redis\+unix)://.+", value.get_secret_value()):
        raise Expected("expected memory:// or a Redis address, such as redis://HOST:6379/0")
    if value.get_secret_value() != DEFAULT:
        check_redis(value.get_secret_value())
    return value


Store = Annotated[SecretStr, BeforeValidator(_store), AfterValidator(_known), WithJsonSchema({"type": "string"})]


class Limits(Section):
    """Where limits are counted."""

    store: Store = Field(
        default_factory=lambda: SecretStr(DEFAULT),
        json_schema_extra={"default": DEFAULT},
        description="`memory://`: each process counts by itself. `redis://HOST:6379/0` (or `rediss://`, "
        "`redis+unix://`): all processes together; needs the extra `[redis]`. While it is away nobody "
        "is held back, and `/-/ready` says so.",
    )
