"""The section ``streams``: running answers."""

from __future__ import annotations

from pydantic import Field

from sseproxy.config.section import Section
from sseproxy.config.values import Duration


class Streams(Section):
    """Running answers."""

    keepalive: Duration = Field(
        default=15.0,
        description="Silence after which a keep-alive is sent; also how soon a client that left is noticed.",
    )
