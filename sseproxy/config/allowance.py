"""What one user may use: the sections ``budget`` and ``limits`` of users and of the section ``defaults``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sseproxy.config.section import Section
from sseproxy.config.values import Frequency, Money, Text, Whole, within


class BudgetFor(Section):
    """What may be spent."""

    EXAMPLE = '`{usd: "5.00", per: month}`'

    usd: Money = Field(description="USD in each period.")
    per: Literal["day", "week", "month", "total"] = Field(
        default="month",
        description="When it renews, in UTC: `day`, `week` (on Monday), `month`, or `total` (never: prepaid).",
    )


class LimitsFor(Section):
    """How much may be asked for at a time."""

    requests: Frequency | None = Field(
        default=None, description="Requests per time, such as `60/minute`: in any minute, not by the clock."
    )
    tokens: Frequency | None = Field(
        default=None,
        description="Input and output tokens per time. Those a request may take are counted when it begins, "
        "corrected when it ends.",
    )
    streams: Annotated[Whole, within(1, 100_000, "streams")] | None = Field(
        default=None, description="Streams that may run at once."
    )


class Defaults(Section):
    """What users have who do not stand in ``users``: those of tokens, of keys made by command, and ``anonymous``."""

    models: tuple[Text, ...] = Field(default=("*",), description="Patterns of the models that they may ask for.")
    budget: BudgetFor | None = Field(default=None, description="As `users.NAME.budget`.")
    limits: LimitsFor | None = Field(default=None, description="As `users.NAME.limits`.")
