"""middleware/personal: what an application says to one visitor, others who read its answer are not told."""

from __future__ import annotations

from typing import Any

import pytest

from sseproxy.middleware.joining import Joining
from sseproxy.middleware.normalize import NormalizeMiddleware
from sseproxy.middleware.personal import split_personal
from sseproxy.middleware.resume import ResumeMiddleware
from sseproxy.middleware.route import RouteMiddleware
from sseproxy.streams.memory import MemoryStreams
from sseproxy.wsgi.exchange import Target

from .apps import CHAT, post


@pytest.mark.parametrize(
    "name",
    ["set-cookie", "Set-Cookie2", "WWW-Authenticate", "Proxy-Authenticate", "Authentication-Info", "Authorization",
     "Clear-Site-Data", "Set-Login", "X-CSRF-Token", "X-CSRFToken", "X-Auth-Token", "Access-Token", "X_Session_Id",
     "x-ratelimit-remaining-tokens", "RateLimit-Policy", "X-Rate-Limit-Remaining", "X-AuthToken", "X-AccessToken",
     "X-Api-Key", "X-Access-Key", "X-Credential", "X-Secret", "X-OAuth-Scopes", "X-SessionToken", "X-Id-Token"],
)  # fmt: skip
def test_what_is_for_one_visitor_is_known_by_its_name(name: str) -> None:
    assert split_personal([(name, "1"), ("X-Own", "2")]) == ([(name, "1")], [("X-Own", "2")])


@pytest.mark.parametrize(
    "name",
    ["Content-Type", "Cache-Control", "Vary", "Retry-After", "X-Tokens-Used", "X-Author", "X-Accel-Buffering",
     "X-Token-Count", "X-Tokenizer", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials",
     "Content-Security-Policy", "Strict-Transport-Security", "openai-model"],
)  # fmt: skip
def test_what_is_said_of_the_answer_is_for_all_who_read_it(name: str) -> None:
    assert split_personal([(name, "1")]) == ([], [(name, "1")])


def test_who_is_given_an_address_gets_it_with_that_if_the_application_has_answered_by_then() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return [b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n']

    streams = MemoryStreams()
    # Nothing is reserved here, so that the answer's head is what a request is accepted by.
    resumed = ResumeMiddleware(NormalizeMiddleware(app), Joining(streams))
    routed = RouteMiddleware(resumed, lambda model: Target("app", model))
    answer = post(routed, body={**CHAT, "stream": True}, Prefer="respond-async")

    assert answer.code == 202
    assert [value for name, value in answer.headers if name == "Set-Cookie"] == ["a=1", "b=2"]
