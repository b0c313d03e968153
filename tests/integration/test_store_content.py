"""Prompts and answers are kept where the configuration asks for it, and nowhere else."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sseproxy.app import create_app
from sseproxy.cli import main
from tests.harness import RawClient, Upstream, raw, stream, waitress_thread, write_config

from .books import CHAT, KEY, STREAM, Books, config

PATH = "/v1/chat/completions"


def ask(settings: dict[str, Any], *bodies: Any) -> None:
    app = create_app(settings)
    with contextlib.closing(app), waitress_thread(app) as server:
        for body in bodies:
            with RawClient(server.url) as client:
                assert client.post(PATH, body, key=KEY).status == 200
                client.read_body()


def told(settings: dict[str, Any], directory: Path, style: str) -> str:
    file = write_config(settings, directory)
    return CliRunner().invoke(main, ["charges", "-c", str(file), "--content", "--format", style]).stdout


def test_nothing_of_prompt_or_answer_is_in_the_books_unless_asked_for(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = stream(tokens=30)
    ask(config(upstream.url, tmp_path), STREAM, CHAT)
    written = b"".join(path.read_bytes() for path in tmp_path.glob("usage.db*"))
    assert b"Tell me a tale" not in written
    assert upstream.last.text.split()[0].encode() not in written


def test_request_and_answer_stand_beside_their_charge_where_asked_for(upstream: Upstream, tmp_path: Path) -> None:
    upstream.script = stream(tokens=5)
    settings = config(upstream.url, tmp_path, prompt={"prefix": "Be brief."})
    settings["accounting"]["store_content"] = True
    ask(settings, STREAM, CHAT)

    rows = json.loads(told(settings, tmp_path, "json"))
    assert [row["answer"] for row in rows] == [exchange.text for exchange in upstream.exchanges]
    for row in rows:
        messages = json.loads(row["request"])["messages"]
        assert [message["content"] for message in messages] == ["Be brief.", "Tell me a tale."]
    assert [row["answer"] for row in csv.DictReader(io.StringIO(told(settings, tmp_path, "csv")))] == [
        row["answer"] for row in rows
    ]


def test_of_an_answer_that_breaks_off_what_there_was_is_kept(upstream: Upstream, tmp_path: Path, books: Books) -> None:
    upstream.script = stream(tokens=9, fault="cut", after=3)
    settings = config(upstream.url, tmp_path)
    settings["accounting"]["store_content"] = True
    ask(settings, STREAM)
    assert books.one_ended()["outcome"] == "upstream_failed"
    (row,) = json.loads(told(settings, tmp_path, "json"))
    assert row["answer"]
    assert upstream.last.text.startswith(row["answer"])


@pytest.mark.parametrize("body", [STREAM, CHAT])
def test_half_a_surrogate_pair_is_kept_as_what_it_is_read_as(body: Any, upstream: Upstream, tmp_path: Path) -> None:
    choice = {"index": 0, "delta" if body is STREAM else "message": {"role": "assistant", "content": "hi \ud83d"}}
    said = json.dumps({"id": "1", "choices": [{**choice, "finish_reason": "stop"}]}).encode()
    upstream.script = raw(b"data: " + said + b"\n\n" if body is STREAM else said)
    settings = config(upstream.url, tmp_path)
    settings["accounting"]["store_content"] = True
    ask(settings, body)

    (row,) = json.loads(told(settings, tmp_path, "json"))
    assert row["answer"] == "hi \ufffd"


@pytest.mark.parametrize("body", [STREAM, CHAT])
def test_a_charge_without_content_has_none_to_show(upstream: Upstream, tmp_path: Path, body: Any) -> None:
    settings = config(upstream.url, tmp_path)
    ask(settings, body)
    (row,) = json.loads(told(settings, tmp_path, "json"))
    assert (row["request"], row["answer"], row["hidden"]) == (None, None, None)
