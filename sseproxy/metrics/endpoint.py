"""``GET /-/metrics``: what Prometheus scrapes. Needs no credentials: no user, no key and no content is in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sseproxy.metrics.instruments import Instruments
from sseproxy.wsgi.call import Answer
from sseproxy.wsgi.errors import MethodNotAllowed, refuse, status_line

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

METRICS_PATH: Final = "/-/metrics"


class MetricsEndpoint:
    """Answers a scrape, in Prometheus' text format or OpenMetrics, as it asks for."""

    def __init__(self, app: WSGIApplication, instruments: Instruments) -> None:
        self.app = app
        self._instruments = instruments

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != METRICS_PATH:
            return self.app(environ, start_response)
        return self._answer(environ)(environ, start_response)

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return refuse(MethodNotAllowed("GET", "HEAD"), environ)
        content_type, text = self._instruments.exposition(environ.get("HTTP_ACCEPT", ""))
        headers = [("Content-Type", content_type), ("Content-Length", str(len(text))), ("Cache-Control", "no-store")]
        return Answer(status_line(200), headers, [text])
