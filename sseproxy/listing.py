"""``GET /v1/models`` (https://platform.openai.com/docs/api-reference/models): what a caller may ask for.

A name that a pattern admits and no list has may be known all the same, as an alias is: its upstream is asked for it.
An upstream that hangs or fails costs its own rows only: one thread waits for its list, the others get what is known so
far; who asks for a name that no list has waits for it as for an answer, no longer than the client is there.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sseproxy.endpoints import json_answer
from sseproxy.middleware.route import NotFound, may_use
from sseproxy.models import Models
from sseproxy.prices import usd_per_token
from sseproxy.wsgi.call import Answer, call_app
from sseproxy.wsgi.client import GONE_KEY, ClientGone, never_gone, watch_client
from sseproxy.wsgi.completion import collect
from sseproxy.wsgi.errors import refuse
from sseproxy.wsgi.exchange import Exchange, User

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger("sseproxy.models")

PATH: Final = "/v1/models"
REMEMBERED: Final = 60.0
"""Seconds for which an upstream's own list of models is taken as current."""

Row = dict[str, Any]


class ModelsEndpoint:
    """``/v1/models`` and ``/v1/models/NAME``: the configured names, and what upstreams list that a pattern admits.

    :param upstreams: by name; those that a pattern leads to are asked.
    """

    def __init__(self, app: WSGIApplication, models: Models, upstreams: Mapping[str, WSGIApplication]) -> None:
        self.app = app
        self._models = models
        self._upstreams = upstreams
        self._lists = [_Listing(name, upstreams[name]) for name in models.open_upstreams()]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ.get("PATH_INFO", "")
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD") or not (path == PATH or path.startswith(f"{PATH}/")):
            return self.app(environ, start_response)
        try:
            answer = self._answer(environ, path)
        except ClientGone as gone:
            answer = refuse(gone, environ)
        if method == "HEAD":
            # Not every server leaves the body away by itself.
            answer.body = []
        return answer(environ, start_response)

    def _answer(self, environ: WSGIEnvironment, path: str) -> Answer:
        user = Exchange.of(environ).user
        rows = self._rows(user)
        if path == PATH:
            return json_answer({"object": "list", "data": list(rows.values())})
        name = path.removeprefix(f"{PATH}/")
        row = rows.get(name) or self._unlisted(name, user, watch_client(environ))
        if row is None:
            return refuse(NotFound("There is no model of that name here.", "model_not_found", "model"), environ)
        return json_answer(row)

    def _rows(self, user: User | None) -> dict[str, Row]:
        names = self._models.names
        rows = {name: {"id": name, "object": "model", "created": 0, "owned_by": "sseproxy"} for name in names}
        for listing in self._lists:
            rows |= {row["id"]: row for row in listing() if self._models.resolve(row["id"]) is not None}
        now = datetime.now(timezone.utc)
        return {name: row | self._pricing(name, now) for name, row in rows.items() if may_use(user, name)}

    def _unlisted(self, name: str, user: User | None, gone: Callable[[], bool]) -> Row | None:
        """The row of a model that no list has, as its upstream tells it; None if it has none, or the user may not.

        :raises ClientGone: who asks has left.
        """
        target = self._models.resolve(name) if may_use(user, name) else None
        if target is None or not {"", ".", ".."}.isdisjoint(target.model.split("/")):  # would be another path
            return None
        upstream = self._upstreams[target.upstream]
        row = _row_of(_fetched(target.upstream, upstream, f"{PATH}/{target.model}", gone))
        if row is None:
            return None
        renamed = {} if target.model == name else {"id": name}
        return row | renamed | self._pricing(name, datetime.now(timezone.utc))

    def _pricing(self, name: str, now: datetime) -> Row:
        """The field ``pricing`` of a row, as OpenRouter has it; nothing where no price is known."""
        target = self._models.resolve(name)
        price = target.price if target is not None else None
        return {} if price is None else {"pricing": usd_per_token(price, now)}


class _Listing:
    """One upstream's list of models, asked for at most once a minute; as last known while it cannot be had."""

    def __init__(self, name: str, upstream: WSGIApplication) -> None:
        self._name = name
        self._upstream = upstream
        self._rows: list[Row] = []
        self._asked: float | None = None
        self._fetching = threading.Lock()

    def __call__(self) -> list[Row]:
        if self._is_old() and self._fetching.acquire(blocking=False):
            try:
                if self._is_old():
                    self._rows = self._fetch() or self._rows
                    self._asked = monotonic()
            finally:
                self._fetching.release()
        return self._rows

    def _is_old(self) -> bool:
        return self._asked is None or monotonic() - self._asked > REMEMBERED

    def _fetch(self) -> list[Row]:
        content = _fetched(self._name, self._upstream, PATH, never_gone)
        rows = content.get("data") if isinstance(content, dict) else None
        return [row for row in map(_row_of, rows) if row is not None] if isinstance(rows, list) else []


def _fetched(name: str, upstream: WSGIApplication, path: str, gone: Callable[[], bool]) -> Any:
    """What an upstream answers to GET; None if that is no good answer in JSON.

    :raises ClientGone: nobody waits for it any more.
    """
    try:
        answer = call_app(upstream, _get(path, gone))
        body = collect(answer.body, gone)
        return msgspec.json.decode(body) if answer.code == 200 else None
    except ClientGone:
        raise
    except Exception as error:  # an upstream may be anybody's application
        log.warning("upstream %r gave no good answer to GET %s: %s: %s", name, path, type(error).__name__, error)
        return None


def _row_of(value: Any) -> Row | None:
    return value if isinstance(value, dict) and isinstance(value.get("id"), str) else None


def _get(path: str, gone: Callable[[], bool]) -> WSGIEnvironment:
    """The environ of a GET request that the proxy makes on its own account (PEP 3333)."""
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        GONE_KEY: gone,
    }
