"""middleware/content: what was said is kept when the client has it, and whatever becomes of that changes no answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from sseproxy.ledger.protocol import Content, LedgerUnavailable
from sseproxy.middleware.content import ContentMiddleware
from sseproxy.wsgi.call import Answer
from sseproxy.wsgi.exchange import Exchange

from .apps import CHAT, post

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "hi \ud83d\0"}, "finish_reason": "stop"}
ANSWER = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE]}
WHOLE = json.dumps(ANSWER).encode()


def ask(keep: Callable[[str, Content], object]) -> Answer:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [WHOLE]

    def reading(environ: Any, start_response: Any) -> Iterable[bytes]:
        Exchange.of(environ).read_request(environ)
        return ContentMiddleware(app, keep)(environ, start_response)

    return post(reading, body=CHAT)


def test_a_whole_answer_is_kept_once_when_it_has_left() -> None:
    kept: list[Content] = []
    answer = ask(lambda charge, content: kept.append(content))

    assert b"".join(answer.body) == WHOLE
    assert kept == []
    answer.close()
    answer.close()
    assert [content.answer for content in kept] == ["hi \ufffd\ufffd"]


@pytest.mark.parametrize("error", [LedgerUnavailable(), ValueError("nobody has thought of it")])
def test_an_answer_that_cannot_be_kept_is_the_same(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def keep(charge: str, content: Content) -> None:
        raise error

    answer = ask(keep)

    assert b"".join(answer.body) == WHOLE
    answer.close()
    assert "is not kept" in caplog.text
