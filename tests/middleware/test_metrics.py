"""MetricsMiddleware: each exchange is told of once, in every way it can end, and telling cannot harm it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest
from werkzeug.test import Client, EnvironBuilder

from sseproxy.middleware.metrics import MetricsMiddleware
from sseproxy.wsgi.call import call_app
from sseproxy.wsgi.exchange import Exchange

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Told:
    """A recorder that remembers."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def ended(self, exchange: Exchange, status: int) -> None:
        self.words.append(f"ended {status}")


class Broken(Told):
    def ended(self, exchange: Exchange, status: int) -> None:
        raise OSError("no space left on device")


def answering(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"answer"]


def refusing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("429 Too Many Requests", [])
    return []


def failing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise RuntimeError("failed")


@pytest.mark.parametrize(("app", "status"), [(answering, 200), (refusing, 429)])
def test_an_exchange_is_told_of_when_its_body_is_closed(app: WSGIApplication, status: int) -> None:
    told = Told()
    answer = call_app(MetricsMiddleware(app, told), EnvironBuilder().get_environ())
    assert told.words == []

    answer.close()
    answer.close()
    assert told.words == [f"ended {status}"]


def test_an_application_that_raises_counts_as_500_and_raises() -> None:
    told = Told()

    with pytest.raises(RuntimeError, match="failed"):
        Client(MetricsMiddleware(failing, told)).get("/")
    assert told.words == ["ended 500"]


def test_an_answer_whose_generation_goes_on_is_over_with_the_generation() -> None:
    told = Told()
    environ = EnvironBuilder().get_environ()
    exchange = Exchange.of(environ)
    exchange.in_background = True
    call_app(MetricsMiddleware(answering, told), environ).close()
    assert told.words == []

    for notify in exchange.when_generated:
        notify()
    assert told.words == ["ended 200"]


def test_numbers_that_cannot_be_written_down_do_not_harm_the_exchange(caplog: pytest.LogCaptureFixture) -> None:
    answer = Client(MetricsMiddleware(answering, Broken())).get("/", buffered=True)

    assert (answer.status_code, answer.data) == (200, b"answer")
    assert caplog.messages == ["an exchange was not counted"]
