"""The live streams of one process."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final

from sseproxy.core.chat import BadRequest
from sseproxy.streams.live import LiveStream
from sseproxy.streams.protocol import Busy, Claim, Stream, Writer

MOST_RUNNING: Final = 4096
KEPT_BUFFERS: Final = 256
"""The most memory for ended streams, in full buffers; the oldest are dropped first."""

END_SECONDS: Final = 5.0
"""How long stopped streams may take to end."""


class KeyReused(BadRequest):
    """An Idempotency-Key was sent again with another request."""

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used for another request. Repeat the same request, or make a new key.",
            code="idempotency_key_reused",
            status=422,
        )


class MemoryStreams:
    """See :class:`~sseproxy.streams.protocol.Streams`.

    :param keep: seconds for which an ended stream can be read again.
    :param keep_alone: seconds for which a stream goes on without a reader.
    :param buffer: the most bytes that are kept of each.
    :param is_over: whether running streams have to end now.
    """

    def __init__(
        self,
        *,
        keep: float = 300.0,
        keep_alone: float = 30.0,
        buffer: int = 1024 * 1024,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._keep = keep
        self._keep_alone = keep_alone
        self._buffer = buffer
        self._is_over = is_over
        self._running: dict[str, LiveStream] = {}
        self._ended: OrderedDict[str, LiveStream] = OrderedDict()
        self._ended_size = 0
        self._claims: dict[str, tuple[Claim, str]] = {}
        self._claimed_for: dict[str, str] = {}
        self._lock = threading.Lock()
        self._none_running = threading.Condition(self._lock)
        self._closing = threading.Condition(self._lock)
        self._is_closed = False
        self._forgetting: threading.Thread | None = None

    def open(self, user: str, claim: Claim | None) -> tuple[Stream, Writer | None]:
        """See the protocol; so for the others."""
        with self._lock:
            self._forget_old()
            found = self._claimed(claim) if claim is not None else None
            if found is not None:
                return found, None
            stream = self._new(user, secrets.token_hex(16))
            if claim is not None:
                self._keep_claim(claim, stream.id)
            return stream, stream

    def create(self, user: str, stream_id: str) -> LiveStream:
        """A new stream with that ID.

        :raises Busy: too many are running.
        """
        with self._lock:
            self._forget_old()
            return self._new(user, stream_id)

    def claimed(self, claim: Claim) -> LiveStream | None:
        """The stream that a claim stands for.

        :raises KeyReused: it stands for another request.
        """
        with self._lock:
            self._forget_old()
            return self._claimed(claim)

    def keep_claim(self, claim: Claim, stream_id: str) -> None:
        """Map a claim to a stream, as long as that is kept and not refused."""
        with self._lock:
            self._keep_claim(claim, stream_id)

    def find(self, stream_id: str) -> LiveStream | None:
        with self._lock:
            self._forget_old()
            return self._running.get(stream_id) or self._ended.get(stream_id)

    def find_claimed(self, key: str) -> LiveStream | None:
        with self._lock:
            self._forget_old()
            claim, _ = self._claims.get(key, (None, ""))
            return self._claimed(claim) if claim is not None else None

    def running(self) -> list[LiveStream]:
        """The streams whose generation has not ended."""
        with self._lock:
            return list(self._running.values())

    def counts(self) -> tuple[int, int]:
        with self._lock:
            self._forget_old()
            return len(self._running), len(self._ended)

    def ping(self) -> None:
        """Memory is always available."""

    def close(self) -> None:
        for stream in self.running():
            stream.stop()
        with self._lock:
            self._none_running.wait_for(lambda: not self._running, END_SECONDS)
            self._is_closed = True
            self._closing.notify_all()

    def _new(self, user: str, stream_id: str) -> LiveStream:
        if len(self._running) >= MOST_RUNNING:
            raise Busy(f"{MOST_RUNNING} answers that can be re-joined are running already. Try again later.")
        stream = LiveStream(
            stream_id,
            user,
            buffer=self._buffer,
            keep_alone=self._keep_alone,
            is_over=self._is_over,
            ended=self._keep_ended,
        )
        self._running[stream.id] = stream
        return stream

    def _claimed(self, claim: Claim) -> LiveStream | None:
        earlier, stream_id = self._claims.get(claim.key, (claim, ""))
        if earlier != claim:
            raise KeyReused
        return self._running.get(stream_id) or self._ended.get(stream_id)

    def _keep_claim(self, claim: Claim, stream_id: str) -> None:
        self._claims[claim.key] = (claim, stream_id)
        self._claimed_for[stream_id] = claim.key

    def _keep_ended(self, stream: LiveStream) -> None:
        with self._lock:
            del self._running[stream.id]
            self._none_running.notify_all()
            self._ended[stream.id] = stream
            self._ended_size += stream.size
            if stream.was_refused():
                self._free_claim(stream.id)
            self._forget_old()
            self._forget_in_time()

    def _forget_in_time(self) -> None:
        """Drop ended streams when they are due, even if no stream is asked for any more. In the child of a fork, the
        parent's thread is dead.
        """
        if self._ended and (self._forgetting is None or not self._forgetting.is_alive()):
            self._forgetting = threading.Thread(target=self._forget_as_due, name="sseproxy-streams", daemon=True)
            with suppress(RuntimeError):  # no thread is left: the end of the next one tries again
                self._forgetting.start()

    def _forget_as_due(self) -> None:
        with self._lock:
            while self._ended and not self._is_closed:
                oldest = next(iter(self._ended.values()))
                assert oldest.ended_at is not None
                self._closing.wait(oldest.ended_at + self._keep - monotonic())
                self._forget_old()
            self._forgetting = None

    def _forget_old(self) -> None:
        """Drop streams that ended too long ago, and the oldest of the others while they take too much memory."""
        too_old = monotonic() - self._keep
        while self._ended:
            oldest = next(iter(self._ended.values()))
            assert oldest.ended_at is not None
            if oldest.ended_at > too_old and self._ended_size <= KEPT_BUFFERS * self._buffer:
                return
            del self._ended[oldest.id]
            self._ended_size -= oldest.size
            self._free_claim(oldest.id)

    def _free_claim(self, stream_id: str) -> None:
        key = self._claimed_for.pop(stream_id, None)
        if key is not None:
            self._claims.pop(key, None)
