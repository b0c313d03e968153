"""Prometheus metrics: what is counted, under which name (https://prometheus.io/docs/practices/naming/).

The one part that imports prometheus_client. Labels hold what the configuration names, never what a client made up.
"""

from __future__ import annotations

from sseproxy.metrics.endpoint import METRICS_PATH, MetricsEndpoint
from sseproxy.metrics.instruments import Instruments, instruments
from sseproxy.metrics.labels import REMEMBERED, Named, RouteLabels
from sseproxy.metrics.ledger import TimedLedger
from sseproxy.metrics.recorder import ExchangeRecorder

__all__ = [
    "METRICS_PATH",
    "REMEMBERED",
    "ExchangeRecorder",
    "Instruments",
    "MetricsEndpoint",
    "Named",
    "RouteLabels",
    "TimedLedger",
    "instruments",
]
