"""The proxy's own paths, under ``/-/``: health, usage, live streams. The list of models: see ``listing``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import parse_qs

import msgspec

from sseproxy.core.chat import BadRequest
from sseproxy.core.failure import Failure
from sseproxy.core.pricing import nano_to_usd
from sseproxy.ledger.protocol import GroupBy, Ledger
from sseproxy.middleware.auth import ANONYMOUS
from sseproxy.middleware.joining import PATH as STREAMS
from sseproxy.middleware.joining import Joining
from sseproxy.middleware.limiter import Limiter
from sseproxy.times import EXPECTED, parse_moment
from sseproxy.wsgi.call import Answer
from sseproxy.wsgi.errors import MethodNotAllowed, refuse, status_line
from sseproxy.wsgi.exchange import Exchange, User

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def json_answer(content: Any, status: int = 200) -> Answer:
    """An answer of one JSON document that nobody may store."""
    body = msgspec.json.encode(content)
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    return Answer(status_line(status), headers, [body])


class OwnPaths:
    """Asks the proxy's own endpoints for its own paths alone: there are many of them, and most requests are for none.

    :param app: answers every other path.
    :param own: what answers below ``/-/``.
    """

    def __init__(self, app: WSGIApplication, own: WSGIApplication) -> None:
        self.app = app
        self._own = own

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        is_own = environ.get("PATH_INFO", "")[:3] == "/-/"
        return (self._own if is_own else self.app)(environ, start_response)


class HealthEndpoints:
    """``/-/health``: the process answers. ``/-/ready``: it can serve; 503 with the reason if it cannot.

    :param checks: raise a :class:`Failure` if what they check is away.
    """

    def __init__(self, app: WSGIApplication, *checks: Callable[[], object]) -> None:
        self.app = app
        self._checks = checks

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/-/health":
            return json_answer({"status": "ok"})(environ, start_response)
        if path == "/-/ready":
            return self._ready()(environ, start_response)
        return self.app(environ, start_response)

    def _ready(self) -> Answer:
        try:
            for check in self._checks:
                check()
        except Failure as failure:
            return json_answer({"status": "unavailable", "reason": failure.message}, 503)
        return json_answer({"status": "ready"})


class StreamsEndpoint:
    """``GET /-/streams/ID`` re-joins a running or recent stream, ``DELETE`` stops it; any other ID is 404.

    An answer that has not begun has told nobody its ID: ``DELETE /-/streams/`` stops the one of an ``Idempotency-Key``.
    """

    def __init__(self, app: WSGIApplication, joining: Joining) -> None:
        self.app = app
        self._joining = joining

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ.get("PATH_INFO", "")
        if not path.startswith(STREAMS):
            return self.app(environ, start_response)
        try:
            answer = self._answer(environ, path.removeprefix(STREAMS))
        except Failure as failure:
            answer = refuse(failure, environ)
        return answer(environ, start_response)

    def _answer(self, environ: WSGIEnvironment, stream_id: str) -> Answer:
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "DELETE"):
            raise MethodNotAllowed("GET", "DELETE")
        if method == "DELETE":
            name = environ.get("HTTP_IDEMPOTENCY_KEY", "") if not stream_id else ""
            found = self._joining.find_named(name, environ) if name else self._joining.find(stream_id, environ)
            found.stop()
            return Answer(status_line(204), [], [])
        return self._joining.rejoin(stream_id, environ)


class UsageEndpoint:
    """``GET /-/usage``: what the caller has used, and may use still; an admin sees everybody, or one with ``?user=``.

    :param find_user: the user of that name, for an admin who asks for one.
    """

    def __init__(
        self, app: WSGIApplication, ledger: Ledger, limiter: Limiter, find_user: Callable[[str], User] = User
    ) -> None:
        self.app = app
        self._ledger = ledger
        self._limiter = limiter
        self._find_user = find_user

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != "/-/usage":
            return self.app(environ, start_response)
        try:
            answer = self._usage(environ)
        except Failure as failure:
            answer = refuse(failure, environ)
        return answer(environ, start_response)

    def _usage(self, environ: WSGIEnvironment) -> Answer:
        query = parse_qs(environ.get("QUERY_STRING", ""))
        caller = Exchange.of(environ).user or ANONYMOUS
        asked = query.get("user", [None])[0]
        user = asked if caller.admin else caller.name
        if asked is not None and asked != user:
            raise Failure("Only an admin may see another user's usage.", status=403, type="permission_error")
        by = query.get("by", ["user" if user is None else "model"])[0]
        if by not in get_args(GroupBy):
            raise BadRequest(f"The parameter 'by' must be one of {', '.join(get_args(GroupBy))}.", "by")
        rows = self._ledger.usage(by, user=user, since=_time(query, "since"), until=_time(query, "until"))
        subject = caller if user in (None, caller.name) else self._find_user(user)
        return json_answer(
            {
                "object": "list",
                "user": user,
                "by": by,
                "data": list(rows),
                "budget": self._budget(subject),
                "limits": self._limits(subject),
            }
        )

    def _budget(self, user: User) -> dict[str, Any] | None:
        budget = user.budget
        if budget is None:
            return None
        balance = self._ledger.balance(user.name, budget.per, datetime.now(timezone.utc))
        return {
            "usd": nano_to_usd(budget.limit),
            "per": budget.per,
            "period": balance.period,
            "spent_usd": nano_to_usd(balance.spent),
            "reserved_usd": nano_to_usd(balance.reserved),
            "left_usd": nano_to_usd(max(0, budget.limit - balance.spent - balance.reserved)),
            "renews_at": balance.renews_at.isoformat() if balance.renews_at else None,
        }

    def _limits(self, user: User) -> dict[str, Any] | None:
        limits = user.limits
        if not limits:
            return None
        told: dict[str, Any] = {
            kind: {"limit": window.limit, "remaining": window.remaining, "reset_seconds": round(window.reset, 3)}
            for kind, window in self._limiter.windows(user.name, limits).items()
        }
        if limits.streams is not None:
            told["streams"] = {"limit": limits.streams, "running": self._limiter.running(user.name)}
        return told


def _time(query: Mapping[str, list[str]], name: str) -> datetime | None:
    text = query.get(name, [""])[0]
    moment = parse_moment(text, datetime.now(timezone.utc)) if text else None
    if text and moment is None:
        raise BadRequest(f"The parameter '{name}' is no time; {EXPECTED}.", name)
    return moment
