"""The proxies that stand in front of deployments: how each is recognised, and its setting against each fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sseproxy.doctor.reading import Reading


@dataclass(frozen=True, slots=True)
class Front:
    """One kind of proxy.

    :ivar marks: what stands, in small letters, in its ``Server`` or ``Via``, or the name of a header of its own.
    :ivar cures: its setting, by the name of the check.
    """

    name: str
    marks: tuple[str, ...]
    cures: dict[str, str]


FRONTS: Final = (
    Front(
        "nginx",
        ("nginx", "openresty"),
        {
            "buffering": "proxy_buffering off; (and no proxy_ignore_headers X-Accel-Buffering)",
            "compression": "gzip off; in the location, or text/event-stream out of gzip_types (and of brotli_types)",
            "idle_timeout": "proxy_read_timeout 1h;",
            "http_version": 'proxy_http_version 1.1; and proxy_set_header Connection "";',
            "headers": "underscores_in_headers, proxy_set_header and proxy_pass_request_headers as they are by default",
        },
    ),
    Front(
        "Apache",
        ("apache",),
        {
            "buffering": "ProxyPass … flushpackets=on (mod_proxy_http), and no mod_buffer or mod_security body rules",
            "compression": "SetEnv no-gzip 1 (mod_deflate) and SetEnv no-brotli 1 (mod_brotli) where these paths are",
            "idle_timeout": "ProxyTimeout 3600, or timeout=3600 at ProxyPass",
            "http_version": "drop SetEnv force-proxy-request-1.0 and proxy-nokeepalive",
        },
    ),
    Front(
        "Cloudflare",
        ("cloudflare", "cf-ray"),
        {
            "buffering": "Response Buffering off for these paths (Enterprise); text/event-stream is let through else",
            "compression": "a Compression Rule `disable` for these paths",
            "idle_timeout": "100 s of silence end a request there: keep streams.keepalive below",
        },
    ),
    Front(
        "AWS",
        ("awselb", "cloudfront", "amazon", "x-amz-cf-id", "x-amzn-trace-id"),
        {
            "buffering": "no API Gateway REST API before it (it buffers); an ALB or NLB does not",
            "compression": "CloudFront: 'Compress objects automatically' off for these paths",
            "idle_timeout": "ALB attribute idle_timeout.timeout_seconds=3600 (default 60); CloudFront: origin response "
            "timeout",
        },
    ),
    Front(
        "HAProxy",
        ("haproxy",),
        {
            "buffering": "drop http-response wait-for-body",
            "compression": "text/event-stream out of `compression type`",
            "idle_timeout": "timeout server 1h and timeout client 1h",
        },
    ),
    Front(
        "Envoy",
        ("envoy", "x-envoy-upstream-service-time", "istio"),
        {
            "buffering": "no buffer filter on this route",
            "compression": "text/event-stream out of the compressor filter's content_type",
            "idle_timeout": "route timeout: 0s and idle_timeout: 3600s; stream_idle_timeout likewise",
        },
    ),
    Front(
        "Caddy",
        ("caddy",),
        {
            "buffering": "no `response_buffers` in reverse_proxy (nor `flush_interval -1`: it hides who left)",
            "compression": "`encode` with a matcher that leaves these paths out",
            "idle_timeout": "reverse_proxy { transport http { read_timeout 0 } }",
        },
    ),
    Front(
        "Varnish",
        ("varnish", "x-varnish"),
        {
            "buffering": "return (pipe), or set beresp.do_stream = true, for these paths",
            "compression": "set beresp.do_gzip = false",
            "idle_timeout": "between_bytes_timeout 3600s (pipe_timeout for pipe)",
        },
    ),
    Front(
        "lighttpd",
        ("lighttpd",),
        {
            "buffering": "server.stream-response-body = 1 (by default it collects each answer whole)",
            "idle_timeout": '"read-timeout" => 3600 at the host in proxy.server',
        },
    ),
    Front(
        "IIS",
        ("microsoft-iis", "arr/"),
        {
            "buffering": "Application Request Routing: response buffer threshold 0",
            "compression": "dynamic compression off for text/event-stream",
            "idle_timeout": "Application Request Routing: proxy time-out 3600 s",
        },
    ),
)


def recognise(reading: Reading) -> list[Front]:
    """The proxies that left their mark on an answer or on the request that arrived."""
    marks = " ".join((reading.header("Server"), reading.header("Via"), str(reading.request.get("via", "")))).lower()
    names = {name.lower() for name, _ in reading.headers}
    return [front for front in FRONTS if any(mark in marks or mark in names for mark in front.marks)]


def cure(check: str, reading: Reading) -> str:
    """The settings against a fault: of the proxies that were recognised, else of all that are known."""
    found = [front for front in recognise(reading) if check in front.cures]
    known = found or [front for front in FRONTS if check in front.cures]
    return ". ".join(f"{front.name}: {front.cures[check].rstrip('.')}" for front in known) + "."
