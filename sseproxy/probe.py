"""``GET /-/probe``: a canned stream by the proxy itself, for ``sseproxy doctor`` to read through the deployed path.

It tells when each event was sent and what of the request arrived. It asks no upstream and is not charged; it is
bounded in length, size and number, and stands behind authentication.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import msgspec

from sseproxy.core.chat import BadRequest
from sseproxy.core.failure import Failure
from sseproxy.core.sse import DONE, FLUSH, Event
from sseproxy.wsgi.call import Answer
from sseproxy.wsgi.client import watch_client
from sseproxy.wsgi.errors import STREAM_HEADERS, MethodNotAllowed, refuse, status_line
from sseproxy.wsgi.stream import EventStream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PATH: Final = "/-/probe"
AT_ONCE: Final = 8
"""Probes that may run at a time in one process: each holds a thread."""
LONGEST: Final = 630.0
"""Seconds that one probe may last."""
TICK: Final = 0.2
#: What a probe can be asked for: the default, the least, the most.
BOUNDS: Final[Mapping[str, tuple[float, float, float]]] = {
    "events": (10, 1, 200),
    "pause": (0.1, 0, 10),
    "silence": (0, 0, 600),
    "keepalive": (0, 0, 600),
    "pad": (0, 0, 8192),
    "hint": (1, 0, 1),
}
WHOLE: Final = ("events", "pad", "hint")
#: Fields of requests that clients of event streams need; told is only whether they arrived.
NEEDED: Final = ("Accept", "Authorization", "Last-Event-ID", "Idempotency-Key", "Prefer", "X-Request-Id")


class Plan(msgspec.Struct, frozen=True):
    """What a probe is to send.

    :ivar events: how many.
    :ivar pause: seconds between two of them.
    :ivar silence: seconds in which nothing but keep-alives is sent, after half of them.
    :ivar keepalive: seconds of silence after which a keep-alive is sent; 0: as every other stream here.
    :ivar pad: bytes that each event is made longer by.
    :ivar hint: whether ``X-Accel-Buffering: no`` stands in the head.
    """

    events: int
    pause: float
    silence: float
    keepalive: float
    pad: int
    hint: bool

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.pause * (self.events - 1) + self.silence


class ProbeEndpoint:
    """Answers :data:`PATH`; every other path is the application's.

    :param keepalive: seconds of silence after which a stream of this proxy gets a keep-alive.
    """

    def __init__(self, app: WSGIApplication, *, keepalive: float = 15.0) -> None:
        self.app = app
        self._keepalive = keepalive
        self._free = threading.BoundedSemaphore(AT_ONCE)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != PATH:
            return self.app(environ, start_response)
        try:
            answer = self._answer(environ)
        except Failure as failure:
            answer = refuse(failure, environ)
        return answer(environ, start_response)

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            raise MethodNotAllowed("GET", "HEAD")
        query = parse_qs(environ.get("QUERY_STRING", ""))
        plan = read_plan({name: values[-1] for name, values in query.items()})
        if not self._free.acquire(blocking=False):
            raise Failure(
                f"{AT_ONCE} probes run in this process already. Try again when they have ended.",
                status=429, type="rate_limit_error", code="too_many_probes", retry_after=5,
            )  # fmt: skip
        first = {"keepalive": self._keepalive, "request": describe(environ), "nonce": query.get("nonce", [""])[-1][:64]}
        every = plan.keepalive or self._keepalive
        stream = EventStream(send(plan, first), gone=watch_client(environ), keepalive=every)
        stream.on_close(self._free.release)
        headers = [item for item in STREAM_HEADERS if plan.hint or item[0] != "X-Accel-Buffering"]
        return Answer(status_line(200), headers, stream)


def read_plan(query: Mapping[str, str]) -> Plan:
    """The plan that a query asks for.

    :raises BadRequest: it asks for what is no number, or for too much.
    """
    number = {name: _number(query, name) for name in BOUNDS}
    plan = Plan(
        int(number["events"]),
        number["pause"],
        number["silence"],
        number["keepalive"],
        int(number["pad"]),
        bool(number["hint"]),
    )
    if plan.seconds > LONGEST:
        raise BadRequest(f"This probe would last {plan.seconds:.0f} s; at most {LONGEST:.0f} s are allowed.", "silence")
    return plan


def _number(query: Mapping[str, str], name: str) -> float:
    default, least, most = BOUNDS[name]
    try:
        value = float(query.get(name, default))
    except ValueError:
        value = -1
    if not least <= value <= most or (name in WHOLE and value % 1):
        kind = "whole number" if name in WHOLE else "number"
        raise BadRequest(f"The parameter '{name}' must be a {kind} from {least:g} to {most:g}.", name)
    return value


def describe(environ: WSGIEnvironment) -> dict[str, Any]:
    """What of the request arrived here, without a secret: how it was sent, as seen behind every proxy."""
    return {
        "protocol": environ.get("SERVER_PROTOCOL", ""),
        "scheme": environ.get("wsgi.url_scheme", ""),
        "location": environ.get("SCRIPT_NAME", "") + PATH,
        "via": environ.get("HTTP_VIA", "")[:200],
        "arrived": [name for name in NEEDED if environ.get("HTTP_" + name.upper().replace("-", "_"))],
    }


def send(
    plan: Plan,
    first: Mapping[str, Any],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[Event]:
    """The events of a probe, each with the milliseconds since the first one; at last ``[DONE]``."""
    begun = clock()
    due = begun
    for number in range(1, plan.events + 1):
        told: dict[str, Any] = {"object": "probe", "n": number, "of": plan.events}
        told |= {"sent_ms": round((clock() - begun) * 1000), "at": time.time()}
        if number == 1:
            told |= first
        if plan.pad:
            told["pad"] = "x" * plan.pad
        yield Event(data=msgspec.json.encode(told))
        yield FLUSH
        if number < plan.events:
            due += plan.pause + (plan.silence if number == (plan.events + 1) // 2 else 0)
            while (left := due - clock()) > 0:
                sleep(min(left, TICK))
                yield FLUSH
    yield Event(data=DONE)
