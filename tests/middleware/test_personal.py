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
    ["set-cookie", "WWW-Authenticate", "Clear-Site-Data", "X-CSRF-Token", "X_Session_Id", "X-Api-Key", "X-User-Id",
     "X-Sid", "x-ratelimit-remaining-tokens", "X-Made-Up", "Content-Type-Of-Alice", "AccessControl"],
)  # fmt: skip
def test_what_an_application_makes_up_is_for_whoever_asked(name: str) -> None:
    assert split_personal([(name, "1"), ("Vary", "2")]) == ([(name, "1")], [("Vary", "2")])


@pytest.mark.parametrize(
    "name",
    ["Content-Type", "content-length", "Content-Language", "Content-Disposition", "Cache-Control", "Vary",
     "Retry-After", "X-Should-Retry", "X-Accel-Buffering", "X-Content-Type-Options", "Access-Control-Allow-Origin"],
)  # fmt: skip
def test_what_describes_the_answer_is_for_all_who_read_it(name: str) -> None:
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
