"""SIGTERM: not ready at once, nothing new, time for what runs, then an error event and an exact charge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness import PATIENCE, RawClient, Upstream, silent, stopped, stream, wait_until

from .books import CHAT, KEY, STREAM, Books, config
from .processes import HOOKED, OWN, PATH, begin, running, status_of

EVENTS = {"Accept": "text/event-stream"}


def settings(url: str, directory: Path, grace: str = "1h", **sections: Any) -> dict[str, Any]:
    return config(url, directory, server={"shutdown_grace": grace, "threads": 16}, **sections)


def steady(upstream: Upstream, tokens: int = 6) -> None:
    """An upstream that sends two events (a chunk with the role, a token), then waits for the test."""
    script = stream(tokens=tokens, steps=True)

    def begun(exchange: Any) -> None:
        exchange.allow(2)
        script(exchange)

    upstream.script = begun


@pytest.mark.parametrize("server", OWN)
def test_sigterm_refuses_what_is_new_and_lets_running_answers_come_to_their_end(
    upstream: Upstream, tmp_path: Path, books: Books, server: str
) -> None:
    steady(upstream)
    with running(settings(upstream.url, tmp_path), tmp_path, server) as process, begin(process.url) as client:
        assert process.process is not None
        process.process.terminate()
        wait_until(lambda: status_of(process.url, "/-/ready") == 503)
        assert status_of(process.url, "/-/health") == 200
        with RawClient(process.url) as late:
            late.post(PATH, STREAM, key=KEY)
            refusal = json.loads(late.read_body())
        assert (late.status, refusal["error"]["code"]) == (503, "server_shutting_down")
        assert (late.headers["retry-after"], late.headers["connection"].lower()) == ("1", "close")
        upstream.last.allow(20)
        assert [event.data for event in client.events()][-1] == b"[DONE]"
        assert process.process.wait(PATIENCE) == 0
    charge = books.one_ended()
    assert (charge["state"], charge["outcome"], charge["output_tokens"]) == ("settled", "completed", 6)


@pytest.mark.parametrize("server", [*OWN, HOOKED])
def test_what_outlasts_the_grace_ends_with_an_error_event_and_is_charged_for_what_there_was(
    upstream: Upstream, tmp_path: Path, books: Books, server: str
) -> None:
    steady(upstream)
    with (
        running(settings(upstream.url, tmp_path, "500ms"), tmp_path, server) as process,
        begin(process.url) as client,
        begin(process.url, **EVENTS) as live,
    ):
        for reader in (client, live):
            assert reader.read_event() is not None, "the token"
        assert process.stop() == 0
        for reader in (client, live):
            *_, last = reader.events()
            assert last.json["error"]["code"] == "server_shutting_down"
            assert reader.ending == "clean"
    charges = books.wait_for(lambda rows: len(rows) == 2 and all(row["state"] != "pending" for row in rows))
    told = {(row["state"], row["outcome"], row["usage_source"], row["output_tokens"]) for row in charges}
    assert told == {("settled", "refused", "counted", 1)}


@pytest.mark.parametrize("server", [*OWN, HOOKED])
def test_an_answer_that_never_pauses_is_ended_all_the_same(
    upstream: Upstream, tmp_path: Path, books: Books, server: str
) -> None:
    upstream.script = stream(tokens=3000, interval=0.01)
    with running(settings(upstream.url, tmp_path, "500ms"), tmp_path, server) as process, begin(process.url) as client:
        assert process.stop() == 0
        *_, last = client.events()
        assert last.json["error"]["code"] == "server_shutting_down"
    charge = books.one_ended()
    assert (charge["outcome"], charge["usage_source"]) == ("refused", "counted")


def test_each_format_ends_in_its_own_words(upstream: Upstream, tmp_path: Path) -> None:
    steady(upstream)
    routes = {
        "/plain": {"model": "m", "format": {"type": "plain", "error": "<ERR>"}},
        "/text": {"model": "m", "format": {"type": "text", "error": "<ERR>"}},
    }
    with running(settings(upstream.url, tmp_path, "500ms", routes=routes), tmp_path, "waitress") as process:
        text = begin(process.url, {"message": "hi"}, "/text")
        message = begin(process.url, {**CHAT, "stream": True, "max_tokens": 50}, "/v1/messages")
        plain = RawClient(process.url).post("/plain", {"message": "hi"}, key=KEY)
        process.stop()
        assert plain.read_body().endswith(b"<ERR>")
        assert [event.data for event in text.events()][-1] == b"<ERR>"
        *_, last = message.events()
        assert (last.type, last.json["type"]) == ("error", "error")
        for client in (text, message, plain):
            client.close()


@pytest.mark.parametrize("server", ["waitress", "gthread"])
def test_an_answer_that_has_not_begun_becomes_a_refusal_and_costs_nothing(
    upstream: Upstream, tmp_path: Path, books: Books, server: str
) -> None:
    upstream.script = silent()
    sections = settings(upstream.url, tmp_path, "500ms")
    sections["upstreams"]["spare"] = {"url": upstream.url}
    sections["models"]["m*"]["upstream"] = ["main", "spare"]
    with (
        running(sections, tmp_path, server) as process,
        RawClient(process.url) as streamed,
        RawClient(process.url) as whole,
    ):
        streamed.send("POST", PATH, STREAM, key=KEY)
        whole.send("POST", PATH, CHAT, key=KEY)
        upstream.wait_for_request(2)
        assert process.stop() == 0
        for client in (streamed, whole):
            client.read_head()
            assert (client.status, client.headers["retry-after"]) == (503, "1")
    charges = books.wait_for(lambda rows: len(rows) == 2 and all(row["state"] != "pending" for row in rows))
    assert {(row["state"], row["outcome"], row["cost_usd"]) for row in charges} == {("released", "refused", "0")}
    assert len(upstream.exchanges) == 2, "nothing is tried again by a server that goes down"


def test_an_answer_that_nobody_reads_at_present_has_the_grace_too(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    steady(upstream)
    with running(settings(upstream.url, tmp_path), tmp_path, "waitress") as process:
        with RawClient(process.url) as client:
            client.post(PATH, STREAM, key=KEY, headers={"Prefer": "respond-async"})
        assert (client.status, process.process is not None) == (202, True)
        assert process.process is not None
        process.process.terminate()
        wait_until(lambda: status_of(process.url, "/-/ready") == 503)
        with RawClient(process.url) as again:
            again.get(client.headers["location"], headers=EVENTS)
            upstream.last.allow(20)
            assert [event.data for event in again.events()][-1] == b"[DONE]"
        assert process.process.wait(PATIENCE) == 0
    assert books.one_ended()["outcome"] == "completed"


def test_with_nothing_running_sigterm_ends_it_at_once(upstream: Upstream, tmp_path: Path) -> None:
    with running(settings(upstream.url, tmp_path), tmp_path, "waitress") as process:
        assert process.stop() == 0


@pytest.mark.parametrize("server", OWN)
def test_that_an_idle_connection_is_hung_up_on_is_no_error_in_the_log(
    upstream: Upstream, tmp_path: Path, server: str
) -> None:
    with running(settings(upstream.url, tmp_path), tmp_path, server) as process, RawClient(process.url) as client:
        assert client.get("/-/health").status == 200
        assert process.stop() == 0
    assert "ERROR" not in process.log


@pytest.mark.parametrize("server", ["waitress", "workers"])
def test_a_second_signal_does_not_wait(upstream: Upstream, tmp_path: Path, server: str) -> None:
    steady(upstream)
    with running(settings(upstream.url, tmp_path), tmp_path, server) as process, begin(process.url):
        assert process.process is not None
        process.process.terminate()
        wait_until(lambda: status_of(process.url, "/-/ready") == 503)
        process.process.terminate()
        process.process.wait(PATIENCE)


def test_who_has_come_but_was_not_heard_yet_when_it_ends_is_answered(upstream: Upstream, tmp_path: Path) -> None:
    with running(settings(upstream.url, tmp_path), tmp_path, "waitress") as process:
        assert process.process is not None
        with stopped(process.pid), RawClient(process.url) as client:
            client.send("GET", "/-/health")
            process.process.terminate()
            os.kill(process.pid, signal.SIGCONT)
            client.read_head()
        assert client.status == 200
        assert process.process.wait(PATIENCE) == 0


def test_the_address_closes_with_its_last_worker_so_that_nobody_waits_at_it_for_the_master(
    upstream: Upstream, tmp_path: Path
) -> None:
    steady(upstream)
    with running(settings(upstream.url, tmp_path), tmp_path, "workers") as process, begin(process.url) as client:
        assert process.process is not None
        process.process.terminate()
        wait_until(lambda: status_of(process.url, "/-/ready") == 503)
        with stopped(process.pid):
            upstream.last.allow(20)
            assert [event.data for event in client.events()][-1] == b"[DONE]"
            wait_until(lambda: is_refused(process.url))
        assert process.process.wait(PATIENCE) == 0


def is_refused(url: str) -> bool:
    """Whether nobody listens there."""
    try:
        RawClient(url).close()
    except ConnectionRefusedError:
        return True
    return False


FORGETFUL = """
import json, sys
from werkzeug.test import Client
from sseproxy import create_app
settings, body, headers = json.loads(sys.argv[1])
client = Client(create_app(settings))
where = client.post("/v1/chat/completions", json=body, headers=headers).headers["Location"]
def says_something(line):
    return line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content")
pieces = client.get(where, headers=headers, buffered=False).iter_encoded()
while not any(map(says_something, next(pieces).decode().split("\\n"))):
    pass
"""


def test_a_process_that_closes_nothing_settles_at_its_end_what_goes_on_in_the_background(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    steady(upstream)
    headers = {"Authorization": f"Bearer {KEY}", "Prefer": "respond-async"}
    argument = json.dumps([config(upstream.url, tmp_path), STREAM, headers])

    subprocess.run([sys.executable, "-c", FORGETFUL, argument], check=True, timeout=60)

    (charge,) = books.charges()
    assert (charge["state"], charge["outcome"], charge["usage_source"]) == ("settled", "client_gone", "counted")
    assert charge["output_tokens"] > 0
