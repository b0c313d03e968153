"""upstream/switch: the target names the upstream."""

from __future__ import annotations

from sseproxy.upstream.switch import UpstreamSwitch
from sseproxy.wsgi.exchange import Exchange, Target
from tests.middleware.apps import Echo, error_of, post


def test_the_target_names_the_upstream() -> None:
    one, two = Echo(), Echo()
    switch = UpstreamSwitch({"one": one, "two": two})

    def aimed(environ, start_response):  # type: ignore[no-untyped-def]
        Exchange.of(environ).target = Target("two", "m")
        return switch(environ, start_response)

    assert post(aimed).code == 200
    assert one.environ is None
    assert two.environ is not None


def test_a_request_without_a_target_is_an_error() -> None:
    assert error_of(post(UpstreamSwitch({})))["code"] == "no_upstream"
