"""CPU per plain content chunk: decode + normalise + meter + encode, beside `json.loads` + `json.dumps` of the chunk.

Targets: at most 6 us, and a ratio below 0.8. The rest shows that cost stays linear for adversarial input.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

from sseproxy.core.normalize import annotate, events_of, normalize
from sseproxy.core.sse import FLUSH, Decoder, Event, encode

CHUNKS = 20_000
ROUNDS = 7
ENVELOPE = '{"id":"chatcmpl-x1","object":"chat.completion.chunk","created":1760000000,"model":"m-1","choices":'
FIRST = 'data: %s[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n' % ENVELOPE  # noqa: UP031
LAST = 'data: %s[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n' % ENVELOPE  # noqa: UP031


def block(number: int, more: str = "") -> bytes:
    chunk = f'{ENVELOPE}[{{"index":0,"delta":{{"content":" tok{number}"}},"finish_reason":null}}]{more}}}'
    return f"data: {chunk}\n\n".encode()


def best(function: Callable[[], object]) -> float:
    """Least CPU seconds of several rounds."""
    times = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        function()
        times.append(time.process_time() - begun)
    return min(times)


def meter(events: Iterator[Event]) -> Iterator[Event]:
    """What accounting does to an event: look at what was read of it."""
    length = 0
    for event in annotate(events, api="chat"):
        length += len(event.content) + len(event.hidden)
        yield event


def proxy(pieces: list[bytes]) -> int:
    size = 0
    for event in meter(normalize(events_of(pieces), api="chat")):
        if event is not FLUSH:
            size += len(encode(event))
    return size


def main() -> None:
    plain = [block(number) for number in range(CHUNKS)]
    padded = [block(number, f',"obfuscation":"{"x" * (number % 9)}"') for number in range(CHUNKS)]
    changing = [block(number, f',"n":{number}') for number in range(CHUNKS)]
    texts = [piece[6:-2].decode() for piece in plain]
    beside = best(lambda: [json.dumps(json.loads(text)) for text in texts]) / CHUNKS
    print(f"{'json.loads + json.dumps of the same chunk':58}{beside * 1e6:8.2f} us")
    for name, blocks in (
        ("plain", plain),
        ("padded (obfuscation)", padded),
        ("every chunk differs (long way)", changing),
    ):
        for per_read in (1, 20):
            reads = [b"".join(blocks[at : at + per_read]) for at in range(0, CHUNKS, per_read)]
            pieces = [FIRST.encode(), *reads, LAST.encode()]
            cost = best(lambda pieces=pieces: proxy(pieces)) / CHUNKS  # type: ignore[misc]
            label = f"{name}, {per_read} a read"
            print(f"{label:58}{cost * 1e6:8.2f} us   ratio {cost / beside:.2f}")
    event = b"data: " + b"x" * (1024 * 1024 - 16)
    bytewise = best(lambda: [feed(bytes([byte])) for feed in [Decoder().feed] for byte in event])
    print(f"{'one event of 1 MiB in reads of one byte, per byte':58}{bytewise / len(event) * 1e6:8.2f} us")
    tiny = best(lambda: Decoder().feed(b"data: x\n\n" * 100_000))
    print(f"{'10^5 tiny events, each':58}{tiny / 100_000 * 1e6:8.2f} us")


if __name__ == "__main__":
    main()
