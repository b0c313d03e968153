"""middleware/hosts: a page that points its own name here is not answered."""

from __future__ import annotations

import pytest

from sseproxy.middleware.hosts import HostsMiddleware

from .apps import Echo, error_of, request

APP = HostsMiddleware(Echo(), ["llm.example.com", "*.example.org"])


@pytest.mark.parametrize(
    "host",
    [
        "llm.example.com",
        "LLM.example.com:8080",
        "llm.example.com.",
        "a.example.org",
        "a.b.example.org:443",
        "localhost:8080",
        "app.localhost",
        "127.0.0.1",
        "10.0.0.7:8080",
        "[::1]:8080",
        "[fd00::1]",
        "",
    ],
)
def test_the_own_names_and_all_that_nobody_can_point_elsewhere_are_let_in(host: str) -> None:
    assert request(APP, "GET", "/-/usage", Host=host).code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.net",
        "evil.net:8080",
        "example.com",
        "example.org",
        "a.llm.example.com",
        "127.0.0.1.evil.net",
        "[evil]",
        "x:y",
    ],
)
def test_another_name_is_refused(host: str) -> None:
    answer = request(APP, "GET", "/-/usage", Host=host)

    assert answer.code == 403
    assert error_of(answer)["code"] == "host_not_allowed"
