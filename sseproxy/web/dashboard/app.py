"""``/-/dashboard``: what the books say, for admins. It reads only; nothing but a login and a logout changes anything.

The tables are HTML and need no script; a script draws their figures as plots. Content-Security-Policy:
https://www.w3.org/TR/CSP3/. SQL may not come in here: see :mod:`sseproxy.ledger.overview`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from importlib.resources import files
from math import ceil
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from sseproxy.core.chat import BadRequest
from sseproxy.core.failure import Failure
from sseproxy.web.dashboard.door import Door
from sseproxy.web.dashboard.figures import NAMES, RUNNING, Figures, running_table
from sseproxy.web.dashboard.page import dashboard_page, login_page, problem_page, table_section
from sseproxy.web.dashboard.ranges import DEFAULT, Range, named_range, read_range
from sseproxy.web.files import GUARDS, StaticFile
from sseproxy.wsgi.call import Answer, Headers
from sseproxy.wsgi.errors import MethodNotAllowed, status_line
from sseproxy.wsgi.exchange import Exchange
from sseproxy.wsgi.form import read_form, read_query

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from sseproxy.ledger.overview import Overview
    from sseproxy.middleware.credentials import Caller

PAGE: Final = "/-/dashboard"
LOGIN: Final = f"{PAGE}/login"
LOGOUT: Final = f"{PAGE}/logout"
NOW: Final = f"{PAGE}/running"
"""The table of what runs now, alone: the page asks for it again and again."""
CSV: Final = {f"{PAGE}/{name}.csv": name for name in NAMES}
#: Files of the page, the same for everybody.
FILES: Final = {
    "/-/dashboard.css": "dashboard/static/dashboard.css",
    "/-/dashboard.js": "dashboard/static/dashboard.js",
    "/-/uplot.css": "vendor/uplot/uPlot.min.css",
    "/-/uplot.js": "vendor/uplot/uPlot.iife.min.js",
}
PATHS: Final = frozenset((PAGE, LOGIN, LOGOUT, NOW, *CSV, *FILES))
LONGEST_LOGIN: Final = 8192
_HEADERS: Final[Headers] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    # Not no-referrer: with that, a browser does not say which origin a form is sent from.
    ("Referrer-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
    *GUARDS,
]


class Dashboard:
    """The page, its tables and its files; every other path is the application's.

    :param clock: now, aware.
    """

    def __init__(
        self,
        app: WSGIApplication,
        overview: Overview,
        door: Door,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.app = app
        self._overview = overview
        self._door = door
        self._clock = clock
        self._files = {path: StaticFile(files("sseproxy.web").joinpath(name)) for path, name in FILES.items()}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path not in PATHS:
            return self.app(environ, start_response)
        if path in self._files:
            answer = self._files[path].answer(environ)
        else:
            answer = self._page(environ, path)
        if environ["REQUEST_METHOD"] == "HEAD":
            answer.body = []
        return answer(environ, start_response)

    def _page(self, environ: WSGIEnvironment, path: str) -> Answer:
        method = environ["REQUEST_METHOD"]
        changes = path in (LOGIN, LOGOUT)
        if changes and method in ("GET", "HEAD"):
            return _moved([])
        query: Mapping[str, str] = {}
        try:
            methods = ("POST",) if changes else ("GET", "HEAD")
            if method not in methods:
                raise MethodNotAllowed(*methods)
            query = dict(read_query(environ.get("QUERY_STRING", "")))
            if changes:
                return self._login(environ) if path == LOGIN else _moved([("Set-Cookie", self._door.logout(environ))])
            return self._read(environ, path, query)
        except Failure as failure:
            return _refusal(failure, query, "" if path == PAGE else "../")

    def _login(self, environ: WSGIEnvironment) -> Answer:
        body = Exchange.of(environ).read_bytes(environ, LONGEST_LOGIN)
        form = dict(read_form(body, environ.get("CONTENT_TYPE", "")))
        try:
            cookie = self._door.login(environ, form.get("key", "").strip())
        except Failure as failure:
            return _refusal(failure, form, "../")
        return _moved([("Set-Cookie", cookie)], _wanted(form, self._clock()))

    def _read(self, environ: WSGIEnvironment, path: str, query: Mapping[str, str]) -> Answer:
        exchange = Exchange.of(environ)
        caller = self._door.admin(environ)
        exchange.user, exchange.key = caller
        now = self._clock()
        if path == NOW:
            return _html(table_section(running_table(self._overview, now), ""))
        if path in CSV:
            return self._csv(CSV[path], query, now)
        return self._dashboard(environ, caller, query, now)

    def _dashboard(self, environ: WSGIEnvironment, caller: Caller, query: Mapping[str, str], now: datetime) -> Answer:
        today, notice = now.date(), ""
        try:
            time = read_range(query, today)
        except BadRequest as failure:
            time, notice = named_range(DEFAULT, today), failure.message
        page = dashboard_page(
            Figures(self._overview, time),
            running_table(self._overview, now),
            time,
            today,
            caller.user.name,
            notice,
            can_leave=self._door.has_session(environ),
        )
        return _html(page, 400 if notice else 200)

    def _csv(self, name: str, query: Mapping[str, str], now: datetime) -> Answer:
        if name == RUNNING:
            table, file = running_table(self._overview, now), f"running-{now:%Y-%m-%dT%H%M%S}"
        else:
            time = read_range(query, now.date())
            table, file = Figures(self._overview, time).table(name), f"by-{name}-{time.first}-{time.last}"
        described = [
            ("Content-Type", "text/csv; charset=utf-8; header=present"),
            ("Content-Disposition", f'attachment; filename="sseproxy-{file}.csv"'),
        ]
        return _answer(200, table.as_csv(), described)


def _refusal(failure: Failure, query: Mapping[str, str], up: str) -> Answer:
    """A page that says what is wrong, with the form where a login may help.

    :param query: of the page that was asked for.
    :param up: from here to the folder of the pages.
    """
    headers: Headers = [("WWW-Authenticate", 'Bearer realm="sseproxy"')] if failure.status == 401 else []
    if failure.retry_after is not None:
        headers.append(("Retry-After", str(max(1, ceil(failure.retry_after)))))
    if isinstance(failure, MethodNotAllowed):
        headers += failure.fields
    helps = failure.status in (401, 403, 429)
    return _html(login_page(failure, query, up) if helps else problem_page(failure, up), failure.status, headers)


def _wanted(form: Mapping[str, str], now: datetime) -> Range | None:
    try:
        return read_range(form, now.date()) if form.get("range") else None
    except BadRequest:
        return None


def _moved(headers: Headers, time: Range | None = None) -> Answer:
    # Relative, as all addresses here: nobody knows below what the proxy is mounted.
    where = f"../dashboard?{time.query}" if time else "../dashboard"
    return _answer(303, b"", [("Location", where), *headers])


def _html(page: Markup, status: int = 200, headers: Headers | None = None) -> Answer:
    body = page.encode("utf-8", "replace")
    return _answer(status, body, [("Content-Type", "text/html; charset=utf-8"), *(headers or [])])


def _answer(status: int, body: bytes, headers: Headers) -> Answer:
    return Answer(status_line(status), [*headers, ("Content-Length", str(len(body))), *_HEADERS], [body])
