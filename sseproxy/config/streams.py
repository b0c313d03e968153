"""The section ``streams``: running answers."""

from __future__ import annotations

from pydantic import Field

from sseproxy.config.section import Section
from sseproxy.config.values import Duration


class Streams(Section):
    """Running answers."""

    keepalive: Duration = Field(
        default=15.0,
        description="Silence after which a stream gets a keep-alive, so that nothing in between takes it for dead.",
    )
