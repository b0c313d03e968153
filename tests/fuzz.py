"""Random bodies through the normaliser: every one must end in a valid stream or a clear error, and soon.

Three kinds of input: tokens of the formats in random order, recorded bodies with random damage, and chunks with
random values in the fields that matter. ``make fuzz`` runs 10^6; ``--seed`` repeats one run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from sseproxy.core.normalize import events_of, normalize
from sseproxy.core.sse import FLUSH, Event
from tests.wire.cases import load_cases
from tests.wire.view import see

TOKENS = [
    b"data: ", b"data:", b"data", b"\n", b"\n\n", b"\r", b"\r\n", b"event: ", b"error", b"ping", b"id: 1", b"retry: 2",
    b": x", b"[DONE]", b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\ud83d", b"\xff",
    b"\xe2\x80\xa8", b"\x1f\x8b",
    b"\xef\xbb\xbf", b"<html>", b"null", b'{"choices":[{"delta":{"content":"x"}}]}', b'{"error":"e"}', b'"choices"',
    b'{"type":"message_start"}', b'{"type":"response.completed","response":{}}', b'{"done":true}', b"0", b" ",
]  # fmt: skip
KEYS = [
    "id", "object", "created", "model", "choices", "usage", "error", "index", "delta", "message", "text", "content",
    "role", "tool_calls", "function", "name", "arguments", "finish_reason", "logprobs", "type", "response", "item",
    "content_block", "prompt_tokens", "completion_tokens", "total_tokens", "cost", "x_groq", "done", "reasoning",
    "reasoning_content", "reasoning_details", "refusal", "function_call", "timings", "detail", "errors", "custom",
]  # fmt: skip
LEAVES: list[Any] = [
    None, True, False, 0, 1, -1, 2.5, 10**30, "", "x", "stop", "error", "{}", "1", "\ud83d", "assistant", "length",
    "response.output_text.delta", "message_delta", "data: y", [], {},
]  # fmt: skip
BODIES = [case.body for case in load_cases() if len(case.body) < 4096]
APIS = ["chat", "chat", "chat", "completions", "responses", "messages"]


def tokens(rng: random.Random) -> bytes:
    return b"".join(rng.choices(TOKENS, k=rng.randrange(1, 30)))


def damaged(rng: random.Random) -> bytes:
    body = bytearray(rng.choice(BODIES))
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(body) + 1)
        match rng.randrange(4):
            case 0:
                del body[at : at + rng.randrange(1, 40)]
            case 1:
                body[at:at] = rng.choice(TOKENS)
            case 2:
                other = rng.choice(BODIES)
                start = rng.randrange(len(other) + 1)
                body[at:at] = other[start : start + rng.randrange(200)]
            case _ if at < len(body):
                body[at] = rng.randrange(256)
    return bytes(body)


def value(rng: random.Random, depth: int) -> Any:
    kind = rng.random()
    if depth <= 0 or kind < 0.4:
        return rng.choice(LEAVES)
    if kind < 0.55:
        return [value(rng, depth - 1) for _ in range(rng.randrange(3))]
    return {rng.choice(KEYS): value(rng, depth - 1) for _ in range(rng.randrange(5))}


def chunks(rng: random.Random) -> bytes:
    body = b""
    for _ in range(rng.randrange(1, 6)):
        delta = {rng.choice(KEYS): value(rng, 3) for _ in range(rng.randrange(4))}
        choice: Any = {"index": rng.choice([0, 0, 0, 1, None, "0"]), "delta": delta, rng.choice(KEYS): value(rng, 2)}
        chunk = {"choices": rng.choice([[choice], [choice], [choice, choice], value(rng, 2)])}
        chunk[rng.choice(KEYS)] = value(rng, 3)
        body += b"data: " + json.dumps(rng.choice([chunk, chunk, value(rng, 4)])).encode() + b"\n\n"
    return body + rng.choice([b"", b"data: [DONE]\n\n"])


KINDS: list[Callable[[random.Random], bytes]] = [tokens, damaged, chunks]


def cut(rng: random.Random, body: bytes) -> Iterator[bytes]:
    ends = sorted(rng.choices(range(len(body) + 1), k=rng.randrange(4)))
    for start, end in itertools.pairwise([0, *ends, len(body)]):
        yield body[start:end]


def check(seed: int) -> None:
    """Run one input; an AssertionError names it."""
    rng = random.Random(seed)
    body = rng.choice(KINDS)(rng)
    api = rng.choice(APIS)
    raw = events_of(cut(rng, body))
    try:
        events = [e for e in normalize(raw, api=api, choices=rng.choice([1, 1, 2])) if e is not FLUSH]  # type: ignore[arg-type]
        assert_ended(api, events)
    except Exception as error:
        raise AssertionError(f"seed {seed}, {api}, {body!r}: {error!r}") from error


def assert_ended(api: str, events: list[Event]) -> None:
    """Assert that `events` is a valid stream, or one that ends in an error."""
    seen = see(api, events)
    if api in ("chat", "completions"):
        assert seen["done"] != (seen["error"] is not None)
    else:
        assert events and not seen["done"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**40))
    options = parser.parse_args()
    print(f"{options.runs} inputs from seed {options.seed}", flush=True)
    begun = time.monotonic()
    seeds = range(options.seed, options.seed + options.runs)
    with multiprocessing.Pool() as pool:
        for done, _ in enumerate(pool.imap_unordered(check, seeds, chunksize=1000), 1):
            if done % 100_000 == 0:
                print(f"{done} in {time.monotonic() - begun:.0f} s", flush=True)
    print("no crash, no hang, every stream ended")


if __name__ == "__main__":
    main()
