"""SIGHUP: another configuration for what comes, the one it began with for what runs."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from werkzeug.test import create_environ

from sseproxy import Config, ConfigError, SSEProxyMiddleware, create_app
from sseproxy.server.served import Served
from sseproxy.wsgi.call import call_app
from tests.harness import PATIENCE, RawClient, Server, Upstream, stream, wait_until, waitress_thread

from .books import CHAT, KEY, STREAM, Books, config
from .processes import HOOKED, OWN, PATH, running


def ask(url: str, key: str = KEY, body: Any = CHAT) -> int:
    """The status of a request."""
    with RawClient(url) as client:
        return client.post(PATH, body, key=key).status


def hup(server: Server, how: str) -> None:
    """SIGHUP, to the master, or to the workers of a gunicorn that would begin new ones instead."""
    for pid in server.workers() if how == HOOKED else [server.pid]:
        os.kill(pid, signal.SIGHUP)


def rewrite(directory: Path, text: str) -> None:
    (directory / "config.yaml").write_text(text, "utf-8")


@pytest.mark.parametrize("server", ["waitress", "workers", "gevent", HOOKED])
def test_keys_prompts_prices_and_upstreams_change_while_a_stream_goes_on(
    upstream: Upstream, tmp_path: Path, books: Books, server: str
) -> None:
    before = config(upstream.url, tmp_path, server={"shutdown_grace": "1s"})
    with Upstream(stream(tokens=3)) as other, running(before, tmp_path, server) as process:
        upstream.script = stream(tokens=4, steps=True)
        exchange_count = len(upstream.exchanges)
        client = RawClient(process.url).send("POST", PATH, STREAM, key=KEY)
        exchange = upstream.wait_for_request(exchange_count + 1)
        exchange.allow(2)
        client.read_head()
        after = config(other.url, tmp_path, server={"shutdown_grace": "1s", "threads": 7})
        after |= {"users": {"bob": {"keys": ["sk-bob"]}}, "prompt": {"prefix": "Be brief."}}
        after["models"]["m*"] = {"price": {"input": "1", "output": "1000"}}
        rewrite(tmp_path, yaml.safe_dump(after))
        hup(process, server)
        wait_until(lambda: ask(process.url, "sk-bob") == 200)
        assert ask(process.url, KEY) == 401
        assert other.last.body["messages"][0] == {"role": "system", "content": "Be brief."}
        wait_until(lambda: "server.threads is as before" in process.log)
        exchange.allow(20)
        assert [event.data for event in client.events()][-1] == b"[DONE]"
        client.close()
    dear = [row for row in books.charges() if row["user"] == "bob"]
    assert all(float(row["cost_usd"]) > 0.003 for row in dear)
    (old,) = [row for row in books.charges() if row["user"] == "alice" and row["state"] == "settled"]
    assert (old["outcome"], old["output_tokens"]) == ("completed", 4)
    assert float(old["cost_usd"]) < 0.001


@pytest.mark.parametrize("server", ["waitress", "workers"])
def test_a_bad_file_changes_nothing_and_every_problem_of_it_is_logged(
    upstream: Upstream, tmp_path: Path, server: str
) -> None:
    with running(config(upstream.url, tmp_path), tmp_path, server) as process:
        workers = process.workers()
        rewrite(tmp_path, "users: {bob: {key: [x]}}\nmodels: {m: {upstream: nowhere}}\n")
        hup(process, server)
        wait_until(lambda: "the old one stays" in process.log)
        assert "users.bob.key: unknown key" in process.log
        assert "config.yaml:2: models.m.upstream" in process.log
        assert ask(process.url) == 200
        assert process.workers() == workers


@pytest.mark.parametrize("server", OWN)
def test_the_log_names_once_what_to_think_about_in_the_new_file(
    upstream: Upstream, tmp_path: Path, server: str
) -> None:
    settings = config(upstream.url, tmp_path)
    with running(settings, tmp_path, server, workers=1 if server == "waitress" else 2) as process:
        assert "users.bob" not in process.log
        settings["users"]["bob"] = {"keys": ["sk-bob"]}
        rewrite(tmp_path, yaml.safe_dump(settings))
        hup(process, server)
        wait_until(lambda: {ask(process.url, "sk-bob") for _ in range(8)} == {200})
        assert process.log.count("users.bob.keys[0]: a key in plain text") == 1


@pytest.mark.parametrize("server", ["waitress", "workers"])
@pytest.mark.parametrize("text", ["", "# users: {alice: {}}\n"])
def test_a_file_with_nothing_in_it_changes_nothing(upstream: Upstream, tmp_path: Path, server: str, text: str) -> None:
    with running(config(upstream.url, tmp_path), tmp_path, server) as process:
        rewrite(tmp_path, text)
        hup(process, server)
        wait_until(lambda: "1 problem; the old one stays" in process.log)
        assert "config.yaml: there is nothing in this file" in process.log
        assert ask(process.url) == 200


def test_an_application_does_not_take_on_a_file_with_nothing_in_it(tmp_path: Path) -> None:
    rewrite(tmp_path, yaml.safe_dump(config("http://127.0.0.1:9/v1", tmp_path)))
    with closing(create_app(tmp_path / "config.yaml")) as app:
        rewrite(tmp_path, "")
        with pytest.raises(ConfigError, match="nothing in this file"):
            app.reload()
        assert "alice" in app.config.users


@pytest.mark.parametrize("server", ["waitress", "workers"])
def test_a_file_that_is_gone_is_no_reason_to_become_the_demo(upstream: Upstream, tmp_path: Path, server: str) -> None:
    with running(config(upstream.url, tmp_path), tmp_path, server, finds_file=True) as process:
        (tmp_path / "config.yaml").unlink()
        hup(process, server)
        wait_until(lambda: "1 problem; the old one stays" in process.log)
        assert "config.yaml: cannot be read" in process.log
        assert (ask(process.url), ask(process.url, "sk-demo")) == (200, 401)


def test_an_application_that_found_its_file_does_not_become_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSEPROXY_CONFIG", raising=False)
    rewrite(tmp_path, yaml.safe_dump(config("http://127.0.0.1:9/v1", tmp_path)))
    with closing(create_app()) as app:
        (tmp_path / "config.yaml").unlink()
        with pytest.raises(ConfigError, match="cannot be read"):
            app.reload()
        assert "alice" in app.config.users


EARLY = """
import os, signal
os.rename("later.yaml", "config.yaml")
os.kill(os.getpid(), signal.SIGHUP)
from sseproxy.demo import app
"""


@pytest.mark.parametrize("server", OWN)
def test_a_signal_during_the_start_is_kept_for_when_the_proxy_runs(
    upstream: Upstream, tmp_path: Path, server: str
) -> None:
    settings = config(upstream.url, tmp_path)
    settings["upstreams"]["early"] = {"wsgi": "early:app"}
    later = {**settings, "users": {"bob": {"keys": ["sk-bob"]}}}
    (tmp_path / "early.py").write_text(EARLY)
    (tmp_path / "later.yaml").write_text(yaml.safe_dump(later))
    with running(settings, tmp_path, server) as process:
        wait_until(lambda: ask(process.url, "sk-bob") == 200)
        assert ask(process.url) == 401
        assert "was sent SIGHUP" not in process.log


def test_a_worker_that_begins_later_has_the_new_configuration(upstream: Upstream, tmp_path: Path) -> None:
    settings = config(upstream.url, tmp_path)
    with running(settings, tmp_path, "workers") as process:
        settings["users"] = {"bob": {"keys": ["sk-bob"]}}
        rewrite(tmp_path, yaml.safe_dump(settings))
        hup(process, "workers")
        wait_until(lambda: ask(process.url, "sk-bob") == 200)
        (worker,) = process.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: process.workers() not in ([worker], []))
        assert ask(process.url, "sk-bob") == 200


def test_gunicorns_own_restart_lets_running_streams_end(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    upstream.script = stream(tokens=4, steps=True)
    settings = config(upstream.url, tmp_path, server={"shutdown_grace": "60s"})
    with running(settings, tmp_path, HOOKED) as process:
        workers = process.workers()
        client = RawClient(process.url).send("POST", PATH, STREAM, key=KEY)
        upstream.wait_for_request().allow(2)
        client.read_head()
        os.kill(process.pid, signal.SIGHUP)
        wait_until(lambda: bool(set(process.workers()) - set(workers)))
        upstream.last.allow(20)
        assert [event.data for event in client.events()][-1] == b"[DONE]"
        client.close()
        wait_until(lambda: not set(process.workers()) & set(workers))
    assert books.one_ended()["outcome"] == "completed"
    assert process.log.count("graceful_timeout is 20 s") == 1, "which is less than the grace"


def test_what_was_counted_and_live_streams_survive(upstream: Upstream, tmp_path: Path) -> None:
    settings = config(upstream.url, tmp_path)
    settings["users"]["alice"]["limits"] = {"requests": "2/day"}
    app = create_app(settings)
    with waitress_thread(app) as server:
        with RawClient(server.url) as client:
            client.post(PATH, STREAM, key=KEY, headers={"Accept": "text/event-stream"})
            events = [event.data for event in client.events()]
        app.reload()
        with RawClient(server.url) as again:
            again.get(client.headers["content-location"], headers={"Accept": "text/event-stream"})
            assert [event.data for event in again.events()] == events
        assert [ask(server.url), ask(server.url)] == [200, 429]
        settings["users"]["alice"]["limits"] = {"requests": "2/day", "streams": 1}
        app.reload(settings)
        assert ask(server.url) == 429
    app.close()


def test_an_upstream_that_did_not_change_keeps_its_connections(upstream: Upstream, tmp_path: Path) -> None:
    settings = config(upstream.url, tmp_path)
    app = create_app(settings)
    with waitress_thread(app) as server:
        assert ask(server.url) == 200
        app.reload({**settings, "prompt": {"prefix": "Be brief."}})
        assert ask(server.url) == 200
    app.close()
    assert upstream.connections == 1


def test_a_wrapper_takes_on_another_configuration_too(tmp_path: Path) -> None:
    with Upstream() as inner:
        settings = config(inner.url, tmp_path)
        wrapped = SSEProxyMiddleware(create_app({**settings, "users": {"proxy": {"keys": [KEY, "sk-bob"]}}}), settings)
        with waitress_thread(wrapped) as server:
            assert (ask(server.url), ask(server.url, "sk-bob")) == (200, 401)
            wrapped.reload({**settings, "users": {"bob": {"keys": ["sk-bob"]}}})
            assert (ask(server.url), ask(server.url, "sk-bob")) == (401, 200)
            with pytest.raises(ConfigError, match=r"users\.bob\.key: unknown key"):
                wrapped.reload({**settings, "users": {"bob": {"key": "x"}}})
            assert ask(server.url, "sk-bob") == 200
        wrapped.close()
        wrapped.app.close()


def test_a_request_that_a_reload_overtakes_is_answered_by_one_configuration(tmp_path: Path) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"{}"]

    settings = config("http://127.0.0.1:9/v1", tmp_path)
    wrapped = SSEProxyMiddleware(
        app, {**settings, "wrap": {"paths": ["/answer"], "default_model": "m", "text": "text"}}
    )

    class Overtaken(dict[str, Any]):
        """An environ; who looks at its path has it looked at by one configuration, and then there is another."""

        def get(self, key: str, default: Any = None) -> Any:
            if key == "PATH_INFO" and wrapped.config.wrap.paths:
                wrapped.reload(settings)
            return super().get(key, default)

    headers = {"Authorization": f"Bearer {KEY}"}
    environ = create_environ("/answer", method="POST", json=CHAT, headers=headers)
    answer = call_app(wrapped, Overtaken(environ))
    assert (answer.code, b"".join(answer.body)) == (200, b"{}")
    answer.close()
    wrapped.close()


def test_of_two_signals_in_a_row_the_later_file_stays(tmp_path: Path) -> None:
    settings = config("http://127.0.0.1:9/v1", tmp_path)
    app = create_app(settings)
    served = Served(app)
    is_loading, may_go_on = threading.Event(), threading.Event()

    def load_earlier() -> Config:
        is_loading.set()
        assert may_go_on.wait(PATIENCE)
        return Config.load({**settings, "users": {"earlier": {}}})

    def load_later() -> Config:
        return Config.load({**settings, "users": {"later": {}}})

    threads = [threading.Thread(target=served.reload, args=(load,)) for load in (load_earlier, load_later)]
    threads[0].start()
    assert is_loading.wait(PATIENCE)
    threads[1].start()
    threads[1].join(0.5)  # it waits; one that did not would have ended
    may_go_on.set()
    for thread in threads:
        thread.join(PATIENCE)

    assert "later" in app.config.users
    app.close()
