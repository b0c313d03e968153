"""The envelope: every chunk of a stream carries the same ``id``, ``object``, ``created`` and ``model``.

The first chunk that says one fixes it; what nobody says is made up once. Events without choices are held, and what
else they carry goes out with the next chunk (Azure's ``prompt_filter_results``), or in one that says nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from sseproxy.core.chunk import ENVELOPE, Chunk
from sseproxy.core.normalize.bodies import IDLE
from sseproxy.core.sse import DONE, HEARTBEAT, Event
from sseproxy.core.usage import find_usage

__all__ = ["Identity", "unify_envelope"]

_OBJECTS: Final = {"chat": "chat.completion.chunk", "completions": "text_completion"}
_OWN: Final = (*ENVELOPE, "choices", "usage")


class Identity:
    """Who the answer is.

    :param api: ``chat`` or ``completions``.
    :param model: what to call the model if the upstream never does.
    :param make_id: makes an id if the upstream never does.
    :param now: seconds since 1970, for ``created``.
    :ivar strangers: objects met that are no chunks of this API.
    """

    def __init__(self, api: str, model: str, *, make_id: Callable[[], str], now: Callable[[], float]) -> None:
        self.make_id = make_id
        self._prefix = "cmpl-" if api == "completions" else "chatcmpl-"
        self._default_model = model
        self._now = now
        self._id = self._model = ""
        self._object = _OBJECTS[api]
        self._created = 0
        self._own: dict[str, Any] | None = None  # the fields, once all are known
        self.strangers = 0

    @property
    def stamped(self) -> bool:
        """There has been a chunk of the answer."""
        return self._own is not None

    def learn(self, body: dict[str, Any]) -> None:
        """Take from `body` what is not known yet."""
        if self._own is not None:
            return
        self._id = self._id or _text(body.get("id"))
        self._model = self._model or _text(body.get("model"))
        self._created = self._created or _seconds(body.get("created"))

    def stamp(self, body: dict[str, Any]) -> bool:
        """Write the identity into `body`; False if this made up what was missing."""
        own = self._own
        known = own is not None
        if own is None:
            own = self._own = {
                "id": self._id or self._prefix + self.make_id(),
                "object": self._object,
                "created": self._created or int(self._now()),
                "model": self._model or self._default_model or "unknown",
            }
        if own.keys() <= body.keys():
            body.update(own)
        else:
            rest = {name: value for name, value in body.items() if name not in own}
            body.clear()
            body.update(own)
            body.update(rest)
        return known


def unify_envelope(events: Iterator[Event], identity: Identity) -> Iterator[Event]:
    """Stamp `identity` on every chunk; drop padding (``obfuscation``) and ``error: null`` (Vercel AI SDK breaks)."""
    held: dict[str, Any] = {}
    for event in events:
        if type(event) is not Chunk:
            if event is IDLE or event is HEARTBEAT or event.data == DONE:
                yield from _alone(held, identity)
            yield event
            continue
        body = event.body
        body.pop("obfuscation", None)
        body.pop("error", None)
        identity.learn(body)
        if not body.get("choices"):
            if not _says_usage(body):
                told = {name: value for name, value in body.items() if name not in _OWN}
                identity.strangers += "choices" not in body
                if told.keys() <= held.keys():
                    yield HEARTBEAT
                held.update(told)
                continue
            yield from _alone(held, identity)
            body["choices"] = []
            event.steady = False
        elif not identity.stamp(body):
            event.steady = False
        if held:
            for name, value in held.items():
                body.setdefault(name, value)
            held.clear()
            event.steady = False
        yield event
    yield from _alone(held, identity)


def _alone(held: dict[str, Any], identity: Identity) -> Iterator[Event]:
    """Yield what is held in a chunk of its own, if the answer has begun: there may be no next one."""
    if held and identity.stamped:
        body = {"choices": [{"index": 0, "delta": {}, "finish_reason": None}], **held}
        held.clear()
        identity.stamp(body)
        yield Chunk(body=body, steady=False)


def _says_usage(body: dict[str, Any]) -> bool:
    return find_usage(body) is not None or body.get("cost") is not None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _seconds(value: Any) -> int:
    try:
        seconds = int(value) if isinstance(value, (int, float, str)) else 0
    except (ValueError, OverflowError):
        return 0
    return seconds if 0 < seconds < 2**53 else 0
