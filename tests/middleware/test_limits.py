"""middleware/limits: how much a user may ask for at a time, in this process and, with Redis, in all of them."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from sseproxy.core.allowance import Limits, Rate
from sseproxy.core.usage import Usage
from sseproxy.middleware.limiter import Limiter, RateLimited
from sseproxy.middleware.limits import LimitsMiddleware
from sseproxy.wsgi.call import Answer
from sseproxy.wsgi.exchange import Exchange, User
from sseproxy.wsgi.stream import EventStream
from tests.harness import RedisServer, wait_until

from .apps import CHAT, Echo, error_of, post, request

STREAM = {**CHAT, "stream": True}
FEW = Limits(requests=Rate(3, 60))


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> str:
    """The URL of a store with nothing in it."""
    return "memory://" if request.param == "memory" else str(request.getfixturevalue("redis").url)


@pytest.fixture
def limiter(store: str) -> Iterator[Limiter]:
    limiter = Limiter(store)
    yield limiter
    limiter.close()


EndingSoon = Callable[[str, Limits], Limits]


@pytest.fixture
def ending_soon(limiter: Limiter, store: str, request: pytest.FixtureRequest) -> EndingSoon:
    """Opens a user's window of tokens, which ends within a second. The next one has its full length."""

    def open_window(user: str, limits: Limits) -> Limits:
        limiter.enter(user, limits, tokens=(1, 1)).settle(1)
        if store == "memory://":
            (key,) = limiter._counted._storage.expirations
            limiter._counted._storage.expirations[key] = time.time() + 1
        else:
            redis: RedisServer = request.getfixturevalue("redis")
            (key,) = (word for word in redis.order("KEYS *").splitlines() if "tokens" in word)
            redis.order(f"PEXPIRE {key} 1000")
        return limits

    return open_window


class Booked:
    """An application that books so many tokens when its stream is closed, as the accounting does."""

    def __init__(self, tokens: int = 10) -> None:
        self.tokens = tokens
        self.seen = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.seen += 1
        exchange = Exchange.of(environ)
        start_response("200 OK", [("x-ratelimit-limit-tokens", "99999"), ("Content-Type", "text/event-stream")])
        if exchange.request is None or not exchange.request.stream:
            self._book(exchange)
            return [b"{}"]
        stream = EventStream(iter(()))
        stream.on_close(lambda: self._book(exchange))
        return stream

    def _book(self, exchange: Exchange) -> None:
        exchange.usage = Usage(input_tokens=self.tokens, output_tokens=0)
        for notify in exchange.when_booked:
            notify()


def as_user(app: Any, name: str, limits: Limits | None) -> Callable[..., Any]:
    def called(environ: dict[str, Any], start_response: Any) -> Any:
        Exchange.of(environ).user = User(name, limits=limits)
        return app(environ, start_response)

    return called


def headers_of(answer: Answer, kind: str) -> tuple[str, str]:
    assert answer.header(f"x-ratelimit-reset-{kind}").endswith("s")
    return answer.header(f"x-ratelimit-limit-{kind}"), answer.header(f"x-ratelimit-remaining-{kind}")


def test_headers_count_down_and_one_request_too_many_is_429(limiter: Limiter) -> None:
    app = Booked()
    limited = as_user(LimitsMiddleware(app, limiter), "alice", FEW)

    assert [headers_of(post(limited), "requests") for _ in range(3)] == [("3", "2"), ("3", "1"), ("3", "0")]
    answer = post(limited)
    assert answer.code == 429
    error = error_of(answer)
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert "3 per minute" in error["message"]
    assert 50 <= int(answer.header("Retry-After")) <= 60
    assert headers_of(answer, "requests") == ("3", "0")
    assert app.seen == 3


def test_nobody_is_told_to_sleep_until_a_limit_by_the_day_is_over(limiter: Limiter) -> None:
    app = as_user(LimitsMiddleware(Booked(), limiter), "alice", Limits(requests=Rate(1, 86400)))

    refused = [post(app) for _ in range(2)][1]

    assert int(refused.header("Retry-After")) > 120
    assert refused.header("X-Should-Retry") == "false"


def test_a_clock_that_is_set_back_locks_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right, ahead = time.time, 3600.0
    monkeypatch.setattr(time, "time", lambda: right() + ahead)
    limiter, tokens = Limiter(), Limits(tokens=Rate(100, 60))
    for _ in range(3):
        limiter.enter("alice", FEW)
    limiter.enter("bob", tokens, tokens=(90, 90))

    ahead = 0.0

    limiter.enter("alice", FEW)
    limiter.enter("bob", tokens, tokens=(20, 20))
    assert limiter.windows("alice", FEW)["requests"].remaining == 2
    assert limiter.windows("bob", tokens)["tokens"].reset <= 60
    limiter.close()


def test_a_clock_that_is_set_back_is_noticed_once_by_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    right, ahead = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: right() + ahead)

    def enter(limiter: Limiter, together: threading.Barrier) -> bool:
        together.wait()
        return can_enter(limiter, "alice", FEW)

    with ThreadPoolExecutor(3) as pool:
        for _ in range(50):
            ahead = 3600.0
            limiter, together = Limiter(), threading.Barrier(3)
            assert all(can_enter(limiter, "alice", FEW) for _ in range(3))
            ahead = 0.0

            assert all(pool.map(enter, [limiter] * 3, [together] * 3))
            assert not can_enter(limiter, "alice", FEW)
            limiter.close()


def test_what_was_held_before_a_clock_is_set_back_is_not_given_back_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    right, ahead = time.time, 20.0
    monkeypatch.setattr(time, "time", lambda: right() + ahead)
    limiter, tokens = Limiter(), Limits(tokens=Rate(100, 60))
    turn = limiter.enter("bob", tokens, tokens=(10, 90))

    ahead = 0.0
    limiter.enter("bob", tokens, tokens=(60, 60))
    turn.settle(10)

    assert limiter.windows("bob", tokens)["tokens"].remaining == 40
    limiter.close()


def test_a_thread_that_is_kept_off_between_two_clocks_empties_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, steady = time.time, time.monotonic
    past, kept_off = 0.0, 0.0

    def read_and_be_kept_off() -> float:
        nonlocal past, kept_off
        now = clock() + past
        past, kept_off = past + kept_off, 0.0
        return now

    monkeypatch.setattr(time, "time", read_and_be_kept_off)
    monkeypatch.setattr(time, "monotonic", lambda: steady() + past)
    limiter = Limiter()
    limiter.enter("alice", FEW)

    kept_off = 2.0
    limiter.enter("alice", FEW)

    assert limiter.windows("alice", FEW)["requests"].remaining == 1
    limiter.close()


def test_who_is_told_when_to_ask_again_is_not_told_too_early(redis: RedisServer) -> None:
    limiter, limits = Limiter(redis.url), Limits(tokens=Rate(10, 60))
    limiter.enter("alice", limits, tokens=(10, 10)).settle(10)
    (key,) = (word for word in redis.order("KEYS *").splitlines() if "tokens" in word)
    redis.order(f"PEXPIRE {key} 30400")

    with pytest.raises(RateLimited) as refused:
        limiter.enter("alice", limits, tokens=(10, 10))

    for told in (refused.value.retry_after, limiter.windows("alice", limits)["tokens"].reset):
        assert told is not None
        assert told * 1000 >= int(redis.order(f"PTTL {key}")[1:]) - 1, "Redis counts whole milliseconds"
    limiter.close()


def test_users_do_not_share_their_limits(limiter: Limiter) -> None:
    app = LimitsMiddleware(Booked(), limiter)

    for name in ("alice", "bob"):
        assert [post(as_user(app, name, FEW)).code for _ in range(4)] == [200, 200, 200, 429]


def test_a_user_without_limits_gets_no_headers_and_no_refusal(limiter: Limiter) -> None:
    app = as_user(LimitsMiddleware(Booked(), limiter), "root", None)

    answers = [post(app) for _ in range(10)]

    assert {answer.code for answer in answers} == {200}
    assert answers[0].header("x-ratelimit-limit-requests") == ""


def test_only_calls_of_models_are_counted(limiter: Limiter) -> None:
    app = as_user(LimitsMiddleware(Echo(), limiter), "alice", FEW)

    assert [post(app).code for _ in range(4)] == [200, 200, 200, 429]
    assert request(app, "GET", "/page").code == 200


def test_the_upstream_s_own_limits_are_not_shown_beside_ours(limiter: Limiter) -> None:
    answer = post(as_user(LimitsMiddleware(Booked(), limiter), "alice", FEW))

    assert answer.header("x-ratelimit-limit-tokens") == ""


def test_a_request_can_be_made_again_when_its_time_is_over(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    right, ahead, limits = time.time, 0.0, Limits(requests=Rate(1, 3600))
    monkeypatch.setattr(time, "time", lambda: right() + ahead)
    limiter.enter("alice", limits)
    with pytest.raises(RateLimited) as caught:
        limiter.enter("alice", limits)

    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 3600
    ahead = caught.value.retry_after
    assert can_enter(limiter, "alice", limits)


def can_enter(limiter: Limiter, user: str, limits: Limits) -> bool:
    try:
        limiter.enter(user, limits)
    except RateLimited:
        return False
    return True


def test_tokens_are_held_while_a_request_runs_and_corrected_when_it_is_booked(limiter: Limiter) -> None:
    limited = as_user(LimitsMiddleware(Booked(10), limiter), "alice", Limits(tokens=Rate(1000, 60)))
    body = {**STREAM, "max_tokens": 100}

    answer = post(limited, body=body)
    held = 1000 - int(headers_of(answer, "tokens")[1])
    answer.close()

    assert 100 < held < 200
    assert limiter.windows("alice", Limits(tokens=Rate(1000, 60)))["tokens"].remaining == 990


def test_what_is_left_of_the_tokens_can_be_used_and_overdrawn_once(limiter: Limiter) -> None:
    app = Booked(400)
    limited = as_user(LimitsMiddleware(app, limiter), "alice", Limits(tokens=Rate(1000, 60)))

    assert [post(limited).code for _ in range(4)] == [200, 200, 200, 429]
    answer = post(limited)
    assert error_of(answer)["type"] == "tokens"
    assert headers_of(answer, "tokens") == ("1000", "0")
    assert app.seen == 3


def test_an_answer_that_outlasts_its_window_counts_in_the_next_what_it_took_beyond_what_was_held(
    limiter: Limiter, ending_soon: EndingSoon
) -> None:
    limits = ending_soon("alice", Limits(tokens=Rate(1000, 3600)))
    long, short = (limiter.enter("alice", limits, tokens=(10, 100)) for _ in range(2))
    wait_until(lambda: limiter.windows("alice", limits)["tokens"].remaining == 1000)

    short.settle(30)
    assert limiter.windows("alice", limits)["tokens"].remaining == 1000
    long.settle(1_000_000)

    with pytest.raises(RateLimited, match="tokens"):
        limiter.enter("alice", limits, tokens=(10, 10))


def test_who_is_refused_for_tokens_that_are_only_held_is_told_to_come_back_soon(limiter: Limiter) -> None:
    limits = Limits(tokens=Rate(1000, 86400))
    running = [limiter.enter("alice", limits, tokens=(10, 500)) for _ in range(2)]

    with pytest.raises(RateLimited) as held:
        limiter.enter("alice", limits, tokens=(10, 10))
    running[0].settle(5)
    limiter.enter("alice", limits, tokens=(10, 10)).settle(10)
    running[1].settle(985)
    with pytest.raises(RateLimited) as spent:
        limiter.enter("alice", limits, tokens=(10, 10))

    assert held.value.retry_after == 1
    assert spent.value.retry_after is not None
    assert spent.value.retry_after > 80000


def test_what_is_held_of_a_window_that_is_over_makes_no_room_in_the_next(
    limiter: Limiter, ending_soon: EndingSoon
) -> None:
    limits = ending_soon("alice", Limits(tokens=Rate(1000, 3600)))
    limiter.enter("alice", limits, tokens=(10, 900))
    wait_until(lambda: limiter.windows("alice", limits)["tokens"].remaining == 1000)
    limiter.enter("alice", limits, tokens=(10, 1000)).settle(1000)

    def told() -> float:
        with pytest.raises(RateLimited) as spent:
            limiter.enter("alice", limits, tokens=(10, 10))
        assert spent.value.retry_after is not None
        return spent.value.retry_after

    wait_until(lambda: told() > 1000)  # what was held is over a moment after its window


def test_the_tokens_that_a_killed_process_held_are_free_when_its_lease_is_over(redis: RedisServer) -> None:
    dead, alive = Limiter(redis.url), Limiter(redis.url)
    limits = Limits(tokens=Rate(1000, 86400))
    lost = dead.enter("alice", limits, tokens=(10, 500))
    kill(dead)
    end_leases = leases_of(redis, "sseproxy:held:alice:1000/86400")
    alive.enter("alice", limits, tokens=(10, 500))

    def refused() -> bool:
        try:
            alive.enter("alice", limits, tokens=(10, 10)).settle(0)
        except RateLimited as limited:
            assert limited.retry_after == 1
            return True
        return False

    assert refused()
    end_leases()
    wait_until(lambda: not refused())
    assert alive.windows("alice", limits)["tokens"].remaining == 500
    lost.settle(100)
    assert alive.windows("alice", limits)["tokens"].remaining == 400, "it was not dead after all, and counts"
    alive.close()
    dead.close()


def test_a_refused_or_failed_request_gives_its_tokens_back(limiter: Limiter) -> None:
    limits = Limits(requests=Rate(2, 60), tokens=Rate(5000, 60), streams=1)

    def refusing(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("503 X", [])
        return []

    def raising(environ: dict[str, Any], start_response: Any) -> Any:
        raise ValueError

    post(as_user(LimitsMiddleware(refusing, limiter), "alice", limits), body=STREAM).close()
    with pytest.raises(ValueError):
        post(as_user(LimitsMiddleware(raising, limiter), "alice", limits), body=STREAM)
    assert post(as_user(LimitsMiddleware(Booked(), limiter), "alice", limits), body=STREAM).code == 429

    assert limiter.windows("alice", limits)["tokens"].remaining == 5000
    assert limiter.running("alice") == 0


def test_so_many_streams_at_once_and_no_more(limiter: Limiter) -> None:
    limited = as_user(LimitsMiddleware(Booked(), limiter), "alice", Limits(streams=2))
    running = [post(limited, body=STREAM) for _ in range(2)]

    refused = post(limited, body=STREAM)
    assert (refused.code, error_of(refused)["type"], refused.header("Retry-After")) == (429, "streams", "1")
    assert post(limited).code == 200
    assert limiter.running("alice") == 2

    for _ in range(3):
        running[0].close()
    assert limiter.running("alice") == 1
    running.append(post(limited, body=STREAM))
    assert running[-1].code == 200
    assert post(limited, body=STREAM).code == 429


def test_a_stream_of_an_application_that_knows_nothing_of_ours_is_given_back_when_closed(limiter: Limiter) -> None:
    limited = as_user(LimitsMiddleware(Echo(), limiter), "anonymous", Limits(streams=1))
    answer = post(limited, body=STREAM)
    assert limiter.running("anonymous") == 1

    answer.close()

    assert limiter.running("anonymous") == 0


def test_many_threads_get_no_more_than_there_is(limiter: Limiter) -> None:
    limits = Limits(requests=Rate(20, 60), tokens=Rate(100, 60), streams=8)
    begin = threading.Barrier(16)

    def enter(number: int) -> int:
        begin.wait()
        try:
            limiter.enter("alice", limits, tokens=(10, 10), stream=True)
            return 1
        except RateLimited:
            return 0

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(enter, range(16))) == 8
    assert limiter.running("alice") == 8
    assert limiter.windows("alice", limits)["tokens"].remaining == 20


def test_two_limiters_on_one_redis_count_together(redis: RedisServer) -> None:
    one, two = Limiter(redis.url), Limiter(redis.url)
    limits = Limits(requests=Rate(2, 60), streams=1)
    turn = one.enter("alice", limits, stream=True)

    with pytest.raises(RateLimited, match="streams"):
        two.enter("alice", limits, stream=True)
    turn.leave()
    two.enter("alice", limits, stream=True)
    with pytest.raises(RateLimited, match="requests"):
        one.enter("alice", limits)
    one.close()
    two.close()


def test_the_streams_of_a_process_that_went_without_a_word_are_free_when_its_lease_is_over(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sseproxy.middleware.redis_slots.RENEWALS", 60_000)
    dead, alive = Limiter(redis.url, lease=600), Limiter(redis.url, lease=600)
    dead.enter("alice", Limits(streams=2), stream=True)
    kill(dead)
    alive.enter("alice", Limits(streams=2), stream=True)
    assert alive.running("alice") == 2

    leases_of(redis, "sseproxy:streams:alice")()

    wait_until(lambda: alive.running("alice") == 1)  # a stream that runs keeps its place, for more than one lease
    alive.close()
    dead.close()


def kill(limiter: Limiter) -> None:
    """As kill -9 does: it renews nothing and gives nothing back."""
    mine = limiter._slots._mine.get()  # type: ignore[attr-defined]
    mine.stopping.set()
    mine.renewing.join()


def leases_of(redis: RedisServer, key: str) -> Callable[[], None]:
    """Ends the leases of what is held there now, as if their time had passed."""
    from redis import Redis

    with Redis.from_url(redis.url) as store:
        held = store.zrange(key, 0, -1)

    def end() -> None:
        with Redis.from_url(redis.url) as store:
            store.zadd(key, dict.fromkeys(held, 1))

    return end


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_gives_back_no_place_of_its_parent(redis: RedisServer) -> None:
    limiter = Limiter(redis.url)
    limiter.enter("alice", Limits(streams=1), stream=True)
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            limiter.enter("bob", Limits(streams=1), stream=True)
            limiter.close()
            code = 0
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    assert (limiter.running("alice"), limiter.running("bob")) == (1, 0)
    limiter.close()


def test_places_are_given_back_at_once_when_all_is_closed(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sseproxy.middleware.redis_slots.TIMEOUT", 0.2)
    monkeypatch.setattr("sseproxy.redis_driver.client.PAUSE", 0)
    limiters = [Limiter(redis.url, lease=600) for _ in range(2)]
    for limiter in limiters:
        for _ in range(5):
            limiter.enter("alice", Limits(streams=10), stream=True)

    limiters[0].close()
    assert limiters[1].running("alice") == 5
    with redis.silent():
        limiters[1].close()
    assert caplog.text.count("given back") == 1


def test_while_redis_is_away_nobody_is_held_back_and_readiness_says_so(redis: RedisServer) -> None:
    limiter = Limiter(redis.url)
    limited = as_user(LimitsMiddleware(Booked(), limiter), "alice", Limits(Rate(1, 60), Rate(1, 60), 1))
    limiter.ping()
    redis.stop()

    assert {post(limited, body=STREAM).code for _ in range(3)} == {200}
    with pytest.raises(Exception, match="not available") as caught:
        limiter.ping()
    assert getattr(caught.value, "status", 0) == 503
    redis.start()
    limiter.ping()
    limiter.close()


@pytest.mark.parametrize("order", ["REPLICAOF 127.0.0.1 1", "CONFIG SET maxmemory 1"])
def test_where_redis_takes_nothing_readiness_and_the_log_say_so_and_no_header_tells_what_is_left(
    order: str, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = Limiter(redis.url)
    limits = Limits(Rate(1, 60), Rate(100, 60), 1)
    limited = as_user(LimitsMiddleware(Booked(), limiter), "alice", limits)
    redis.order(order)

    answers = [post(limited) for _ in range(2)]

    assert [answer.code for answer in answers] == [200, 200]
    assert not [name for answer in answers for name, _ in answer.headers if name.startswith("x-ratelimit-")]
    with pytest.raises(Exception, match="not available"):
        limiter.ping()
    assert "Error: " in caplog.text
    limiter.close()


@pytest.mark.parametrize("pause", [0, 3600])
def test_a_redis_that_fell_silent_is_left_alone_for_a_while(
    pause: int, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sseproxy.middleware.redis_slots.TIMEOUT", 0.5)
    monkeypatch.setattr("sseproxy.redis_driver.client.PAUSE", pause)
    limiter = Limiter(redis.url)
    limited = as_user(LimitsMiddleware(Booked(), limiter), "alice", FEW)
    limiter.ping()

    with redis.silent():
        assert post(limited).code == 200

    if pause:
        answers = [post(limited) for _ in range(5)]
        assert {(answer.code, answer.header("x-ratelimit-limit-requests")) for answer in answers} == {(200, "")}
        with pytest.raises(Exception, match="not available"):
            limiter.ping()
    else:
        wait_until(lambda: post(limited).code == 429)
        limiter.ping()
    limiter.close()


def test_a_store_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError):
        Limiter("memcached+x://h")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.12, "120ms"),
        (0, "0ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (360, "6m0s"),
        (7205, "2h0m5s"),
        (0.9999, "1s"),
        (59.9996, "1m0s"),
        (119.99999, "2m0s"),
        (3599.9999, "1h0m0s"),
        (3605.25, "1h0m5.25s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    from sseproxy.middleware.limiter import as_duration

    assert as_duration(seconds) == text


def test_a_redis_without_its_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sseproxy.redis_driver.client", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(RuntimeError, match=r"sseproxy\[redis\]"):
        Limiter("redis://127.0.0.1:1/0")
