"""The section ``dashboard``: the page that shows an admin what the books say."""

from __future__ import annotations

from pydantic import Field

from sseproxy.config.section import Section
from sseproxy.config.values import Flag


class Dashboard(Section):
    """The page that shows an admin what the books say."""

    enabled: Flag = Field(
        default=True, description="Serve `/-/dashboard`; whoever opens it needs a key of a user with `admin: true`."
    )
