"""What is made of single readings: heads, ends, clocks, headers, and times."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sseproxy.doctor import checks
from sseproxy.doctor.buffering import block_size, check_buffering, check_hint, check_idle
from sseproxy.doctor.reading import Arrival, Reading
from sseproxy.doctor.refusals import explain_refusal
from sseproxy.doctor.target import Target

NOW = 1_760_000_000.0
HEADERS = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache, no-transform")]


def reading(
    times: list[float] | None = None, *, sent: list[float] | None = None, headers: list[tuple[str, str]] | None = None,
    request: dict[str, Any] | None = None, **changes: Any,
) -> Reading:  # fmt: skip
    """A good reading of events that came at these times, with changes."""
    times = [0.0, 0.1, 0.2] if times is None else times
    sent = times if sent is None else sent
    told: list[dict[str, Any]] = [
        {"n": n, "of": len(sent), "sent_ms": at * 1000, "at": NOW + at} for n, at in enumerate(sent, 1)
    ]
    told[0] |= {"nonce": "n", "request": {"protocol": "HTTP/1.1", "location": "/-/probe"} | (request or {})}
    found = Reading(200, "OK", 11, HEADERS + (headers or []), "chunked", head_at=0.0, wall=NOW)
    found.arrivals = [Arrival(at, each) for at, each in zip(times, told, strict=False)]
    found.reads = [(at, 100) for at in times]
    found.done, found.pings, found.ended_at = True, 2, max(times, default=0.0)
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_a_good_reading_has_no_fault() -> None:
    good = reading()
    found = [
        *checks.check_head(good), checks.check_cache(good, "n"), checks.check_framing(good),
        checks.check_http_version(good), *checks.check_end(good), checks.check_keepalives(good, 2),
        checks.check_location(good, Target.of("http://h")), checks.check_clock(good),
        checks.check_compression(good), check_buffering(good), check_hint(good),
    ]  # fmt: skip

    assert [finding for finding in found if finding.status != "ok"] == []


def test_another_content_type_is_named() -> None:
    changed = reading()
    changed.headers = [("Content-Type", "text/html"), *HEADERS[1:]]

    kind, _ = checks.check_head(changed)

    assert (kind.status, "text/html" in kind.message) == ("fault", True)


@pytest.mark.parametrize("value", ["", "public, max-age=3600", "no-cache"])
def test_a_rewritten_cache_control_is_named(value: str) -> None:
    changed = reading()
    changed.headers = [HEADERS[0], ("Cache-Control", value)]

    assert checks.check_head(changed)[1].status == "warning"


def test_an_answer_to_an_earlier_request_is_a_caches() -> None:
    assert checks.check_cache(reading(), "another").status == "fault"


@pytest.mark.parametrize(("framing", "word"), [("close", "closing"), ("length", "Content-Length")])
def test_a_framing_that_hides_cuts_is_named(framing: str, word: str) -> None:
    finding = checks.check_framing(reading(framing=framing))

    assert (finding.status, word in finding.message) == ("fault", True)


def test_http_1_0_is_named_with_the_cure_of_the_proxy_in_front() -> None:
    old = reading(request={"protocol": "HTTP/1.0"}, headers=[("Server", "nginx/1.22.1")])

    finding = checks.check_http_version(old)

    assert finding.status == "fault"
    assert "proxy_http_version 1.1" in finding.cure and "Apache" not in finding.cure


def test_lost_events_and_a_lost_end_mark_are_told_apart() -> None:
    short = reading([0.0, 0.1], sent=[0.0, 0.1, 0.2], done=False)
    whole = reading(done=False)

    assert [finding.status for finding in checks.check_end(short)] == ["fault", "fault"]
    assert [finding.status for finding in checks.check_end(whole)] == ["ok", "fault"]


def test_events_that_the_proxy_did_not_send_are_named() -> None:
    assert "did not send" in checks.check_end(reading(strangers=1))[0].message


def test_a_body_that_does_not_end_after_done_is_a_warning() -> None:
    assert checks.check_end(reading(ending="silent"))[1].status == "warning"


def test_stripped_keep_alives_are_a_fault() -> None:
    assert checks.check_keepalives(reading(pings=0), 2).status == "fault"


def test_fields_that_did_not_arrive_are_named_with_what_they_are_for() -> None:
    finding = checks.check_request_headers(reading(request={"arrived": ["Accept"]}), ["Accept", "Last-Event-ID"])

    assert (finding.status, "Last-Event-ID (resuming)" in finding.message) == ("fault", True)


def test_a_prefix_that_the_proxy_does_not_know_is_named() -> None:
    finding = checks.check_location(reading(), Target.of("http://h/llm/v1"))

    assert finding.status == "fault"
    assert "server.trusted_proxy" in finding.cure


def test_clocks_that_differ_are_told_by_how_much_and_whose() -> None:
    proxy = checks.check_clock(reading(wall=NOW + 60))
    front = checks.check_clock(reading(headers=[("Date", "Sat, 01 Jan 2000 00:00:00 GMT")]))

    assert "60 s behind" in proxy.message
    assert "header Date" in front.message


def test_a_held_back_event_is_no_wrong_clock() -> None:
    assert checks.check_clock(reading([20.0, 20.0], sent=[0.0, 20.0])).status == "ok"


def test_a_certificate_that_ends_soon_is_a_warning() -> None:
    soon, later = {"notAfter": "Oct 12 00:00:00 2025 GMT"}, {"notAfter": "Oct 12 00:00:00 2027 GMT"}

    assert checks.check_certificate(reading()) is None
    assert checks.check_certificate(reading(certificate=soon)).status == "warning"  # type: ignore[union-attr]
    assert checks.check_certificate(reading(certificate=later)).status == "ok"  # type: ignore[union-attr]


def test_events_that_come_all_at_once_are_held_back() -> None:
    finding = check_buffering(reading([2.0, 2.0, 2.0], sent=[0.0, 1.0, 2.0]))

    assert (finding.status, "until the answer has ended" in finding.message) == ("fault", True)
    assert all(name in finding.cure for name in ("nginx", "Apache", "Cloudflare"))


def test_the_cure_behind_caddy_is_not_one_that_hides_that_clients_leave() -> None:
    held = reading([2.0, 2.0, 2.0], sent=[0.0, 1.0, 2.0], headers=[("Server", "Caddy")])

    assert "no `response_buffers`" in check_buffering(held).cure
    assert "nor `flush_interval -1`" in check_buffering(held).cure


def test_the_cures_are_settings_that_the_proxy_in_front_knows() -> None:
    """Tried with Apache 2.4.71, whose mod_brotli looks for a variable of its own, HAProxy 2.6 and lighttpd 1.4.69."""
    held = reading([2.0, 2.0, 2.0], sent=[0.0, 1.0, 2.0])
    cures = check_buffering(held).cure
    apache = checks.check_compression(reading(headers=[("Server", "Apache"), ("Content-Encoding", "br")])).cure

    assert "HAProxy: drop http-response wait-for-body." in cures
    assert "lighttpd: server.stream-response-body = 1" in cures
    assert "no-gzip 1" in apache and "no-brotli 1" in apache
    assert "/v1/" not in apache, "routes, /-/streams and what the doctor itself reads stand elsewhere"


def test_an_even_delay_is_the_networks() -> None:
    assert check_buffering(reading([5.0, 6.0, 7.0], sent=[0.0, 1.0, 2.0])).status == "ok"


def test_blocks_are_measured_by_what_comes_together() -> None:
    together = [(0.2, 1000), (0.201, 3096), (0.4, 4096), (0.6, 4096), (0.7, 100)]

    assert block_size(reading(reads=together)) == 4096
    assert block_size(reading(reads=[(2.0, 60_000), (2.001, 4_000)])) is None
    held = reading([2.0, 2.0], sent=[0.0, 2.0])
    assert "about 4 KiB" in check_buffering(held, reading(reads=together)).message


def test_streams_that_flow_only_by_the_hint_are_a_warning() -> None:
    assert check_hint(reading([2.0, 2.0], sent=[0.0, 2.0])).status == "warning"


def test_a_cut_in_a_silence_is_an_idle_time_out_and_the_keep_alive_that_fits_is_named() -> None:
    cut = reading([0.0], sent=[0.0], done=False, ending="cut", ended_at=5.0)

    finding = check_idle(cut, 12, keepalive=15)

    assert "cut after 5.0 s" in finding.message
    assert "keepalive: 2s" in finding.cure and "proxy_read_timeout" in finding.cure


def test_a_cut_in_spite_of_keep_alives_is_another_limit() -> None:
    cut = reading([0.0], sent=[0.0], done=False, ending="cut", ended_at=30.0)

    assert "limit on the whole answer" in check_idle(cut, 60, keepalive=5).cure


def test_a_survived_silence_says_how_far_that_goes() -> None:
    assert "--idle 20" in check_idle(reading(), 12, keepalive=15).message
    assert "--idle" not in check_idle(reading(), 60, keepalive=15).message


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", "http://h"),
        ("h:8080", "http://h:8080"),
        ("https://h:443/llm/v1/", "https://h/llm"),
        ("http://[::1]:8080/v1", "http://[::1]:8080"),
    ],
)
def test_an_address_is_taken_as_a_client_has_it(url: str, expected: str) -> None:
    assert Target.of(url).url == expected


@pytest.mark.parametrize("url", ["", "ftp://h", "http://", "http://u:p@h", "http://h/a b", "http://h:x"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Target.of(url)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("Unknown path: GET //-/probe. Two slashes in a row are not taken for one.", "the path that arrives is not"),
        (
            "Unknown request URL: GET /-/probe. See https://platform.openai.com/docs.",
            "is not sseproxy's",
        ),
    ],
)
def test_a_slash_too_many_is_told_from_an_address_that_is_another_apis(said: str, message: str) -> None:
    body = json.dumps({"error": {"message": said, "code": "unknown_url"}}).encode()

    found = explain_refusal(reading(status=404, body=body), Target.of("http://h"), sent_key=True)

    assert message in found.finding.message
