"""Addresses of stores: what a driver would misread is refused when the configuration is loaded, and never repeated."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest

from sseproxy.config import Config, ConfigError
from tests.config.conftest import Problems

Load = Callable[[str], Config]

ESCAPES = "%2F"
PASSWORDS = [
    "topsecret/x",
    "x/topsecret",
    "12/topsecret",
    "/topsecret",
    "top@topsecret",
    "12#topsecret",
    "#topsecret",
    "topsecret#x",
    "topsecret?x",
    "12?topsecret",
    "[topsecret",
    "topsecret]",
    "1/2@topsecret",
]
LEDGER = "accounting: {{ledger: '{}'}}"
STORES = ["limits: {{store: '{}'}}", "streams: {{store: '{}'}}"]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("name", ["", "user"])
@pytest.mark.parametrize("section", STORES)
@pytest.mark.parametrize("end", ["@127.0.0.1:6379/0", "@127.0.0.1"])
def test_a_redis_password_that_is_not_escaped_is_refused_and_not_repeated(
    problems: Problems, section: str, name: str, password: str, end: str
) -> None:
    (problem,) = problems(section.format(f"redis://{name}:{password}{end}"))

    assert ESCAPES in problem and "topsecret" not in problem


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_database_password_that_is_not_escaped_is_refused_and_not_repeated(
    problems: Problems, scheme: str, password: str
) -> None:
    (problem,) = problems(LEDGER.format(f"{scheme}://user:{password}@127.0.0.1:5432/books"))

    assert ESCAPES in problem and "topsecret" not in problem


@pytest.mark.parametrize("port", ["abc", "99999", "0", "-1", "", "1:2"])
def test_a_port_that_is_none_is_refused(problems: Problems, port: str) -> None:
    for text in (STORES[0].format(f"redis://h:{port}/0"), LEDGER.format(f"postgresql://u:p@h:{port}/x")):
        assert "a port of 1 to 65535" in problems(text)[0]


@pytest.mark.parametrize("value", ["none", "", "-1", "1.5", "topsecret", "5&prepare_threshold=5"])
def test_from_how_many_uses_on_a_statement_is_prepared_is_one_number(problems: Problems, value: str) -> None:
    (problem,) = problems(LEDGER.format(f"postgresql://u:p@h/x?prepare_threshold={value}"))

    assert "expected a whole number as prepare_threshold" in problem and "topsecret" not in problem


@pytest.mark.parametrize("address", ["redis://:topsecret@[::1/0", "redis://:topsecret@::1]/0"])
def test_half_an_ipv6_address_is_refused(problems: Problems, address: str) -> None:
    (problem,) = problems(STORES[0].format(address))

    assert "expected an address such as redis" in problem and "topsecret" not in problem


@pytest.mark.parametrize("database", ["zz", "0x", "0/topsecret", "-1"])
def test_a_redis_database_is_a_number(problems: Problems, database: str) -> None:
    (problem,) = problems(STORES[0].format(f"redis://127.0.0.1:1/{database}"))

    assert "the number of a database" in problem and "topsecret" not in problem


@pytest.mark.parametrize(
    "address",
    [
        "redis://127.0.0.1:1/0?socket_timout=topsecret",
        "redis://127.0.0.1:1/0?topsecret",
        "redis://127.0.0.1:1/0?ssl_ca_certs=topsecret",
        "redis://127.0.0.1:1/0?socket_timeout=topsecret",
        "redis+unix:///run/r.sock?socket_keepalive=1",
        "rediss://127.0.0.1/0?ssl_cert_reqs=topsecret",
    ],
)
def test_an_option_that_redis_would_choke_on_at_every_request_is_refused(problems: Problems, address: str) -> None:
    (problem,) = problems(STORES[0].format(address))

    assert "socket_timeout" in problem and "topsecret" not in problem


def test_a_password_from_the_environment_is_checked_too(problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", "topsecret/x")

    (ledger,) = problems(LEDGER.format("postgresql://user:${PW}@host/db"))
    (store,) = problems(STORES[1].format("redis://:${PW}@host/0"))

    assert "topsecret" not in ledger + store


@pytest.mark.parametrize("address", ["redis://:topsecret/x@h/0", "redis://:p@[topsecret/0"])
def test_the_whole_chain_of_errors_is_silent_about_the_address(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load({"limits": {"store": address}})

    assert "topsecret" not in "".join(traceback.TracebackException.from_exception(caught.value).format())


@pytest.mark.parametrize(
    "store",
    [
        "redis://h",
        "redis://h/",
        "redis:///0",
        "redis://:a:b@h/0",
        "redis://user:p%2F%40%23%3A%3Fw@h:6379/15",
        "redis://[::1]:6379/0",
        "redis://h/0?socket_timeout=0.5&health_check_interval=30&client_name=a%40b",
        "redis://h?db=3&password=p&username=u&protocol=3",
        "rediss://:p@h/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=false",
        "redis+unix:///run/redis@main.sock",
        "redis+unix://:p@/run/r.sock?db=1",
    ],
)
def test_what_redis_reads_as_it_is_meant_is_taken(load: Load, store: str) -> None:
    assert load(STORES[0].format(store)).limits.store.get_secret_value() == store


@pytest.mark.parametrize(
    "ledger",
    [
        "sqlite:////var/lib/a@b:c#d/usage.db",
        "sqlite:///C:/books/usage.db",
        "sqlite:///:memory:",
        "postgresql:///books",
        "postgresql://user@h/books",
        "postgresql://user:a:b@h/books",
        "postgresql://user:p%2F%40%23%3A%3Fw@[::1]:5432/books?sslmode=require",
        "postgresql://user:p@/books?host=/run/postgresql",
        "postgresql://user:p@/books?host=a:5432&host=b:5432",
    ],
)
def test_what_a_database_reads_as_it_is_meant_is_taken(load: Load, ledger: str) -> None:
    assert load(LEDGER.format(ledger)).accounting.ledger.get_secret_value() == ledger
