"""The section ``auth``: who is let in."""

from __future__ import annotations

from pydantic import Field

from sseproxy.config.section import Section
from sseproxy.config.values import Flag


class Auth(Section):
    """Who is let in."""

    required: Flag = Field(
        default=True, description="Refuse requests without a valid key; false lets them in as `anonymous`."
    )
