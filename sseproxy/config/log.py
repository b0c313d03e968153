"""The section ``log``: what is written to standard error."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sseproxy.config.section import Section


class Log(Section):
    """What is written to standard error."""

    format: Literal["text", "json"] = Field(default="text", description="`text` for people, `json` for collectors.")
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severity written: `debug`, `info`, `warning`, `error`."
    )
