"""Reading for the meter: what an event of any API adds to the answer. Changes no byte.

A reader has memory, for Anthropic tells usage in two halves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

from sseproxy.core.chunk import read_json, text_of, texts_by_choice
from sseproxy.core.failure import Failure
from sseproxy.core.normalize.blocks import texts_in_blocks
from sseproxy.core.normalize.executed_tools import ExecutedTools
from sseproxy.core.normalize.failures import failure_in, is_error
from sseproxy.core.normalize.finish import finish_of
from sseproxy.core.normalize.output import Output
from sseproxy.core.sse import Event
from sseproxy.core.usage import Usage, find_usage, tidy_usage, usage_of
from sseproxy.core.usage_so_far import merge_fields, merge_usage

__all__ = ["NOTHING_TOLD", "Reader", "annotate", "reader_of", "told_failure"]

NOTHING_TOLD: Final[dict[str, Any]] = {"output_tokens": 0}
"""The usage that a message's first delta is given if it has none."""
# Anthropic's deltas by the field that holds their text; `content` is that of a compaction.
_DELTAS: Final = {"text": "content", "thinking": "hidden", "partial_json": "hidden", "content": "hidden"}


class Reader(Protocol):
    """Fills in what an event carries.

    :ivar usage: as known after the last event.
    """

    usage: Usage | None

    def read(self, body: dict[str, Any], event: Event) -> None: ...


def reader_of(api: str) -> Reader:
    """Return a fresh reader for one stream of `api`."""
    if api == "responses":
        return _Responses()
    return _Messages() if api == "messages" else _Chat()


def annotate(events: Iterator[Event], *, api: str) -> Iterator[Event]:
    """Fill in what the events carry that nobody has read yet, and change nothing else."""
    reader = reader_of(api)
    for event in events:
        if not event.read:
            event.read = True
            if event.data[:1] == b"{":
                try:
                    body = read_json(event.data)
                except ValueError:
                    body = None
                if isinstance(body, dict):
                    event.error = event.error or told_failure(body, event.type)
                    reader.read(body, event)
        yield event


def told_failure(body: dict[str, Any], type: str) -> Failure | None:
    """Return the failure that an event of this type tells of, if it does."""
    given = body.get("error")
    if body.get("type") == "response.failed":
        response = body.get("response")
        reason = response.get("error") if isinstance(response, dict) else None
        if isinstance(reason, dict) and isinstance(given, dict):
            reason = {**given, **reason}
        said = next(filter(is_error, (reason, given)), {"message": "The upstream's response failed."})
        return failure_in({"error": said})
    return failure_in(body, "error") if is_error(given) or "error" in (type, body.get("type")) else None


class _Chat:
    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._known: dict[str, Any] | None = None
        self._tools = ExecutedTools()

    def read(self, body: dict[str, Any], event: Event) -> None:
        choices = body.get("choices")
        if isinstance(choices, list):
            kept = [choice for choice in choices if isinstance(choice, dict)]
            said = self._tools.new_in({"choices": kept})
            event.content, event.hidden = text_of(said)
            event.by_choice = texts_by_choice(said)
            calls = any(isinstance(c.get("delta"), dict) and c["delta"].get("tool_calls") for c in kept)
            for choice in kept:
                event.finish = finish_of(choice.get("finish_reason"), calls=calls) or event.finish
        found = find_usage(body)
        if found is not None:
            self._known = merge_usage(self._known, found)
            self.usage = event.usage = usage_of(self._known or found)


class _Responses:
    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._output = Output()

    def read(self, body: dict[str, Any], event: Event) -> None:
        event.content, event.hidden = self._output.read(body)
        response = body.get("response")
        if not isinstance(response, dict):
            return
        if isinstance(response.get("usage"), dict):
            found = find_usage({"usage": response["usage"]})
            if found is not None:
                self.usage = event.usage = usage_of(found)
        if body.get("type") in ("response.completed", "response.incomplete"):
            event.finish = _responses_finish(response, self._output.calls)


def _responses_finish(response: dict[str, Any], calls: bool) -> str:
    details = response.get("incomplete_details")
    if response.get("status") == "incomplete" or details:
        reason = details.get("reason") if isinstance(details, dict) else None
        return "content_filter" if reason == "content_filter" else "length"
    return "tool_calls" if calls else "stop"


class _Messages:
    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._fields: dict[str, Any] = {}
        self._told: Any = NOTHING_TOLD  # by the last delta; one that has none was given the same object
        self._begun = ("", "")  # what the message held when it began, until blocks say it
        self._with_input = False  # the last block has begun with its input

    def read(self, body: dict[str, Any], event: Event) -> None:
        delta, block, message = body.get("delta"), body.get("content_block"), body.get("message")
        if isinstance(message, dict):
            self._begun = texts_in_blocks(message.get("content"))
        elif isinstance(block, dict):
            self._begun = ("", "")
            self._with_input = bool(block.get("input"))
            event.content, event.hidden = texts_in_blocks([block if self._with_input else {**block, "input": None}])
        elif body.get("type") in ("message_delta", "message_stop"):
            (event.content, event.hidden), self._begun = self._begun, ("", "")
        if isinstance(delta, dict):
            for field, kind in _DELTAS.items():
                text = delta.get(field)
                if isinstance(text, str) and not (field == "partial_json" and self._with_input):
                    setattr(event, kind, text)
            event.finish = finish_of(delta.get("stop_reason"), calls=False)
        told = body.get("usage")
        news, self._told = (None if told is self._told else told), told or self._told
        for usage in (message.get("usage") if isinstance(message, dict) else None, news):
            if isinstance(usage, dict):
                self._fields = merge_fields(self._fields, usage)
                found = tidy_usage(self._fields, exclusive=True)
                if found is not None:
                    known = usage_of(found)
                    if known != self.usage or usage.get("output_tokens"):
                        self.usage = known
                    event.usage = self.usage  # the same object where nothing is said of the output
