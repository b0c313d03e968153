"""upstream/local and upstream/pool: WSGI applications as upstreams, and the choice among upstreams."""

from __future__ import annotations

from sseproxy.upstream.local import LocalUpstream
from sseproxy.upstream.pool import UpstreamPool
from sseproxy.wsgi.exchange import KEY, Exchange, Target
from tests.middleware.apps import Echo, error_of, post


def test_a_local_application_sees_neither_credentials_nor_the_proxy_s_own_state() -> None:
    echo = Echo()

    post(LocalUpstream(echo), Authorization="Bearer k", Cookie="a=b", X_Api_Key="k", X_Other="1")

    assert echo.environ is not None
    assert not {"HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_X_API_KEY", KEY} & set(echo.environ)
    assert echo.environ["HTTP_X_OTHER"] == "1"


def test_the_target_names_the_upstream() -> None:
    one, two = Echo(), Echo()
    pool = UpstreamPool({"one": one, "two": two})

    def aimed(environ, start_response):  # type: ignore[no-untyped-def]
        Exchange.of(environ).target = Target("two", "m")
        return pool(environ, start_response)

    assert post(aimed).code == 200
    assert one.environ is None
    assert two.environ is not None


def test_a_request_without_a_target_is_an_error() -> None:
    assert error_of(post(UpstreamPool({})))["code"] == "no_upstream"
