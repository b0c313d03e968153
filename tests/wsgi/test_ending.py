from __future__ import annotations

from sseproxy.wsgi.ending import when_ended
from sseproxy.wsgi.exchange import Exchange


def exchange() -> Exchange:
    return Exchange("id", "/")


def test_the_end_of_an_exchange_is_when_its_body_is_closed_and_once() -> None:
    ends: list[int] = []
    body = when_ended(exchange(), [b"a"], lambda: ends.append(1))

    assert list(body) == [b"a"] and ends == []
    body.close()
    body.close()
    assert ends == [1]


def test_what_goes_on_without_its_client_ends_later() -> None:
    ends: list[int] = []
    running = exchange()
    running.in_background = True
    when_ended(running, [], lambda: ends.append(1)).close()
    assert ends == []

    for notify in running.when_generated * 2:
        notify()
    assert ends == [1]


def test_what_ended_in_the_background_before_its_reader_ends_with_the_reader() -> None:
    ends: list[int] = []
    running = exchange()
    body = when_ended(running, [], lambda: ends.append(1))
    for notify in running.when_generated:
        notify()

    assert ends == []
    body.close()
    assert ends == [1]
