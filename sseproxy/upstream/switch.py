"""The innermost application of a proxy: hands a request to the upstream that its target names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sseproxy.core.failure import UpstreamFailure
from sseproxy.wsgi.errors import refuse
from sseproxy.wsgi.exchange import KEY, Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class UpstreamSwitch:
    """All upstreams as one application.

    :param upstreams: by name; the exchange's target names one of them.
    """

    def __init__(self, upstreams: Mapping[str, WSGIApplication]) -> None:
        self._upstreams = upstreams

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        exchange: Exchange = environ.get(KEY) or Exchange.of(environ)
        target = exchange.target
        upstream = self._upstreams.get(target.upstream) if target is not None else None
        if upstream is None:
            failure = UpstreamFailure("No upstream is configured for this request.", code="no_upstream")
            return refuse(failure, environ)(environ, start_response)
        return upstream(environ, start_response)
