"""upstream/local: WSGI applications as upstreams."""

from __future__ import annotations

import pytest

from sseproxy.upstream.local import LocalUpstream
from sseproxy.wsgi.exchange import KEY
from tests.middleware.apps import Echo, post


def test_a_local_application_sees_neither_credentials_nor_the_proxy_s_own_state() -> None:
    echo = Echo()

    post(LocalUpstream(echo), Authorization="Bearer k", Cookie="a=b", X_Api_Key="k", X_Other="1")

    assert echo.environ is not None
    assert not {"HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_X_API_KEY", KEY} & set(echo.environ)
    assert echo.environ["HTTP_X_OTHER"] == "1"


def test_a_local_application_is_not_asked_for_what_the_proxy_does_itself() -> None:
    echo = Echo()

    post(LocalUpstream(echo), Idempotency_Key="k", Prefer="respond-async", Last_Event_ID="1")

    assert echo.environ is not None
    assert not {"HTTP_IDEMPOTENCY_KEY", "HTTP_PREFER", "HTTP_LAST_EVENT_ID"} & set(echo.environ)


@pytest.mark.parametrize(
    "name", ["X_HTTP_Method_Override", "X_Original_URL", "X_Override_URL", "X_Forwarded_Uri", "X_Forwarded_Method"]
)
def test_a_local_application_hears_of_no_other_method_or_path_than_was_checked(name: str) -> None:
    echo = Echo()

    post(LocalUpstream(echo), **{name: "DELETE /admin"})

    assert echo.environ is not None
    assert "DELETE /admin" not in echo.environ.values()
