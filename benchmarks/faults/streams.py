"""The requests of the fault suite: how each is to end, and the client that sees to it. Deterministic by its seed."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.harness import RawClient

KEY: Final = "sk-books"
MODEL: Final = "gpt-4o-books-"
KILLED: Final = "worker killed (-9)"


@dataclass(frozen=True)
class Ending:
    """A way in which an exchange ends.

    :param upstream: what the upstream does at the end of its words: see ``upstream.py``.
    :param leave: when the client leaves: after a share of the words, at ``finish`` (the last chunk before the usage),
        at ``once`` (before the first byte), or never.
    :param becomes: the outcomes that its charge may have, each with where its tokens are known from.
    """

    name: str
    weight: int
    upstream: str | int
    becomes: set[tuple[str, str]]
    leave: float | str | None = None
    stream: bool = True


_COMPLETED: Final = ("completed", "reported")
_COUNTED: Final = ("completed", "counted")
_FAILED: Final = ("upstream_failed", "counted")
_GONE: Final = ("client_gone", "counted")
_LATE: Final = ("client_gone", "reported")
ENDINGS: Final = (
    Ending("completed, reported", 14, "ok", {_COMPLETED}),
    Ending("completed, no usage", 10, "silent", {_COUNTED}),
    # It may be over before anybody can notice that the client left.
    Ending("client gone, upstream talking", 14, "ok", {_GONE, _LATE, _COMPLETED}, 0.4),
    Ending("client gone, upstream silent", 8, "hang", {_GONE}, 1.0),
    Ending("client gone before the first byte", 6, "mute", {_GONE}, "once"),
    Ending("client gone after the last chunk", 8, "late", {_LATE, _COMPLETED}, "finish"),
    Ending("upstream cut", 8, "cut", {_FAILED}),
    Ending("upstream reset", 7, "reset", {_FAILED}),
    Ending("upstream idle", 4, "hang", {_FAILED}),
    Ending("refused, 4xx", 4, 400, {("refused", "none")}),
    Ending("refused, 5xx", 4, 500, {("upstream_failed", "none")}),
    Ending("error event", 7, "error", {_FAILED}),
    Ending("not streamed, reported", 4, "ok", {_COMPLETED}, stream=False),
    Ending("not streamed, no usage", 2, "silent", {_COUNTED}, stream=False),
)


@dataclass
class Stream:
    """One request: its plan, and what its client saw. ``saw``: done, error, left, broken or a status."""

    number: int
    ending: Ending
    tokens: int
    interval: float
    leave_after: int
    resets: bool
    prompt: str
    saw: str = ""
    began: float = 0.0
    ended: float = 0.0

    @property
    def model(self) -> str:
        """Also its name: a charge tells its model."""
        return f"{MODEL}{self.number:06d}"

    def body(self) -> dict[str, Any]:
        plan = {"upstream": self.ending.upstream, "tokens": self.tokens, "interval": self.interval, "seed": self.number}
        messages = [{"role": "system", "content": "You keep books."}, {"role": "user", "content": self.prompt}]
        return {"model": self.model, "messages": messages, "stream": self.ending.stream, "metadata": plan}


def plan_streams(number: int, seed: int, prose: str) -> list[Stream]:
    """So many streams in a random order, each ending as often as its weight says, the same for the same seed."""
    dice = random.Random(seed)
    words = prose.split()
    return [_stream(dice, each, words) for each in range(number)]


def _stream(dice: random.Random, number: int, words: list[str]) -> Stream:
    ending = dice.choices(ENDINGS, [each.weight for each in ENDINGS])[0]
    # One in eight runs long enough to be noted by a checkpoint before its worker is killed.
    long = dice.random() < 0.125
    tokens = dice.randint(140, 190) if long else dice.randint(30, 90)
    interval = 0.02 if long else dice.uniform(0.003, 0.012)
    share = ending.leave if isinstance(ending.leave, float) else 0.0
    leave_after = max(1, int(tokens * (share if share == 1.0 else share * dice.uniform(0.5, 1.5))))
    prompt = " ".join(dice.choices(words, k=dice.randint(3, 60)))
    return Stream(number, ending, tokens, interval, leave_after, dice.random() < 0.5, prompt)


def run_stream(stream: Stream, url: Callable[[], str]) -> None:
    """Send it and let it end as planned.

    :param url: where the proxy listens now; asked again while nobody does.
    """
    client = _connect(url)
    stream.began = time.monotonic()
    try:
        with client:
            stream.saw = _converse(stream, client)
            if stream.saw == "left" and stream.resets:
                client.reset()
    except (OSError, AssertionError):
        # Whoever knows that the server lives looks into this; while it is being killed, this is how it looks.
        stream.saw = "broken"
    stream.ended = time.monotonic()


def _connect(url: Callable[[], str]) -> RawClient:
    for _ in range(200):
        try:
            return RawClient(url(), timeout=30)
        except OSError:
            time.sleep(0.1)
    raise AssertionError("nobody listens")


def _converse(stream: Stream, client: RawClient) -> str:
    client.send("POST", "/v1/chat/completions", stream.body(), key=KEY)
    leave = stream.ending.leave
    if leave == "once":
        time.sleep(0.05 + 0.002 * (stream.number % 100))
        return "left"
    client.read_head()
    if client.status != 200 or not stream.ending.stream:
        client.read_body()
        return str(client.status) if client.ending == "clean" else "broken"
    said = 0
    while event := client.read_event():
        if event.data == b"[DONE]":
            return "done"
        content = json.loads(event.data)
        if "error" in content:
            return "error"
        choice = content["choices"][0] if content["choices"] else {}
        said += bool(choice.get("delta", {}).get("content"))
        finished = leave == "finish" and choice.get("finish_reason")
        if finished or (isinstance(leave, float) and said >= stream.leave_after):
            return "left"
    return "broken"
