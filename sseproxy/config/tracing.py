"""The section ``tracing``: whether OpenTelemetry is told of each answer. How and where: the ``OTEL_*`` variables."""

from __future__ import annotations

from pydantic import Field

from sseproxy.config.section import Section
from sseproxy.config.values import Flag


class Tracing(Section):
    """What OpenTelemetry is told."""

    enabled: Flag = Field(
        default=False,
        description="`true`: one span for each answer of a model, sent where the environment variables `OTEL_*` say.",
    )
