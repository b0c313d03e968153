"""The section ``metrics``: whether Prometheus can ask."""

from __future__ import annotations

from pydantic import Field

from sseproxy.config.section import Section
from sseproxy.config.values import Flag


class Metrics(Section):
    """What Prometheus is told."""

    enabled: Flag = Field(default=True, description="`false`: nothing is counted, and the path is unknown.")
