"""The section ``streams``: running answers, and how long one outlives its connection."""

from __future__ import annotations

from pydantic import Field, SecretStr

from sseproxy.config.limits import DEFAULT, Store
from sseproxy.config.section import Section
from sseproxy.config.values import Duration, DurationOrNone, Size


class Streams(Section):
    """Running answers."""

    store: Store = Field(
        default_factory=lambda: SecretStr(DEFAULT),
        json_schema_extra={"default": DEFAULT},
        description="Where such answers are kept: in each process by itself, or in a Redis that all processes "
        "share (`redis://HOST:6379/0`, extra `[redis]`), so that any of them can be asked. A Redis "
        "that fails costs the sharing, not running answers; an `Idempotency-Key` that is new to a process is "
        "refused there with 503 meanwhile.",
    )
    keep: Duration = Field(
        default=300.0,
        description="How long an answer can be read again after its end. A process holds at most 256 times "
        "`buffer` of ended ones and forgets the oldest first (Redis does not); it runs at most 4,096, and refuses more "
        "with 503.",
    )
    keep_alone: DurationOrNone = Field(
        default=30.0,
        description="How long an answer goes on while nobody reads it; then it is cancelled and settled as "
        "`client_gone`. `0s`: as soon as its last reader has left; the first one always has 10 s to come, and one "
        "that read in another process is missed within 10 s.",
    )
    buffer: Size = Field(
        default=1024 * 1024,
        description="How much of one answer is kept. What nobody was handed is never dropped: where it fills the "
        "buffer, the upstream is read no further. Of what was handed to a connection, the last half of the buffer is "
        "kept: of more that got lost on the way, the reader that comes back is told 410. Where that may not be, make "
        "it at least twice the largest answer. A reader that falls behind the fastest by more loses its place.",
    )
    keepalive: Duration = Field(
        default=15.0,
        description="Silence after which a stream gets a keep-alive, so that nothing in between takes it for dead. "
        "Where it begins the answer, the status is 200, and of a wrapped application's header fields only the cookies "
        "of one that has called `start_response` by then are sent.",
    )
    client_timeout: Duration = Field(
        default=30.0,
        description="A client that takes no byte for so long, while some wait for it, is cut off; its upstream is "
        "closed, its charge settled as `client_gone`. What counts is what the client's system "
        "acknowledges: one that reads slowly takes its bytes in portions of its buffer. Linux only; "
        "under `sseproxy serve` and any gunicorn with threads or gevent. Other servers and what stands "
        "in front (nginx `send_timeout`, uWSGI `socket-timeout`, Apache `TimeOut`) have settings of "
        "their own; `waitress-serve` has none.",
    )
