"""The two typed streams, text only: OpenAI's responses and Anthropic's messages. No tools, no images, one choice.

https://platform.openai.com/docs/api-reference/responses-streaming · https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from sseproxy.core.failure import Failure
from sseproxy.demo.wire import Reply, event


class Response:
    """``/v1/responses``. Its end mark is the event ``response.completed`` (or ``response.incomplete``)."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.choice = reply.answer.choices[0]
        self.item = f"msg_demo{reply.stamp}"
        self.sequence = count()

    def opening(self) -> Iterator[bytes]:
        yield self._event("response.created", response=self._response("in_progress"))
        yield self._event("response.in_progress", response=self._response("in_progress"))
        yield self._event("response.output_item.added", output_index=0, item=self._item("in_progress"))
        yield self._part("response.content_part.added", part=self._text(""))

    def tokens(self) -> Iterator[bytes]:
        for piece in self.choice.pieces:
            yield self._part("response.output_text.delta", delta=piece, logprobs=[])

    def closing(self) -> Iterator[bytes]:
        yield self._part("response.output_text.done", text=self.choice.text, logprobs=[])
        yield self._part("response.content_part.done", part=self._text(self.choice.text))
        yield self._event("response.output_item.done", output_index=0, item=self._item(self._status))
        if self.reply.tells_end:
            yield self._event(f"response.{self._status}", response=self.whole())

    def failure(self, failure: Failure) -> bytes:
        code = str(failure.code or failure.type)
        return self._event("error", code=code, message=failure.message, param=failure.param)

    def whole(self) -> dict[str, Any]:
        response = self._response(self._status)
        response["output"] = [self._item(self._status)]
        if self._status == "incomplete":
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        if self.reply.tells_usage:
            response["usage"] = self._usage()
        return response

    @property
    def _status(self) -> str:
        return "incomplete" if self.choice.finish == "length" else "completed"

    def _event(self, type: str, **fields: Any) -> bytes:
        return event({"type": type, "sequence_number": next(self.sequence), **fields}, type)

    def _part(self, type: str, **fields: Any) -> bytes:
        return self._event(type, item_id=self.item, output_index=0, content_index=0, **fields)

    def _text(self, text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def _item(self, status: str) -> dict[str, Any]:
        content = [] if status == "in_progress" else [self._text(self.choice.text)]
        return {"id": self.item, "type": "message", "status": status, "role": "assistant", "content": content}

    def _response(self, status: str) -> dict[str, Any]:
        question = self.reply.question
        return {
            "id": f"resp_demo{self.reply.stamp}",
            "object": "response",
            "created_at": self.reply.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": question.instructions or None,
            "max_output_tokens": question.max_tokens,
            "model": question.model,
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": None,
        }

    def _usage(self) -> dict[str, Any]:
        given, made = self.reply.question.input_tokens, self.reply.answer.output_tokens
        return {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": given + made,
        }


class Message:
    """``/v1/messages``. Its end mark is the event ``message_stop``."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.choice = reply.answer.choices[0]

    def opening(self) -> Iterator[bytes]:
        start = {**self._message(), "content": [], "stop_reason": None}
        if self.reply.tells_usage:
            start["usage"] = self._usage(0)
        yield self._event("message_start", message=start)
        yield self._event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield self._event("ping")

    def tokens(self) -> Iterator[bytes]:
        for piece in self.choice.pieces:
            yield self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})

    def closing(self) -> Iterator[bytes]:
        yield self._event("content_block_stop", index=0)
        usage = {"usage": {"output_tokens": self.reply.answer.output_tokens}} if self.reply.tells_usage else {}
        yield self._event("message_delta", delta={"stop_reason": self._reason, "stop_sequence": None}, **usage)
        if self.reply.tells_end:
            yield self._event("message_stop")

    def failure(self, failure: Failure) -> bytes:
        return event(refusal(failure), "error")

    def whole(self) -> dict[str, Any]:
        message = self._message()
        if self.reply.tells_usage:
            message["usage"] = self._usage(self.reply.answer.output_tokens)
        return message

    @property
    def _reason(self) -> str:
        return "max_tokens" if self.choice.finish == "length" else "end_turn"

    def _event(self, type: str, **fields: Any) -> bytes:
        return event({"type": type, **fields}, type)

    def _message(self) -> dict[str, Any]:
        return {
            "id": f"msg_demo{self.reply.stamp}",
            "type": "message",
            "role": "assistant",
            "model": self.reply.question.model,
            "content": [{"type": "text", "text": self.choice.text}],
            "stop_reason": self._reason,
            "stop_sequence": None,
        }

    def _usage(self, made: int) -> dict[str, Any]:
        return {"input_tokens": self.reply.question.input_tokens, "output_tokens": made}


def refusal(failure: Failure) -> dict[str, Any]:
    """Anthropic's error body."""
    kind = "api_error" if failure.type == "server_error" else failure.type
    return {"type": "error", "error": {"type": kind, "message": failure.message}}
