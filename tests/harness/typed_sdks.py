"""The SDKs that read the other APIs: openai-python for Responses and legacy completions, anthropic for Messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import openai

from .parts import missing
from .sdks import TLS, Reading, connect

Reader = Callable[[Reading, str, str, Mapping[str, Any]], None]
FINISHES = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


def read_typed(client: str, base_url: str, body: Mapping[str, Any], key: str) -> Reading:
    """Read a stream with one of TYPED_CLIENTS; an exception of the SDK becomes ``error``."""
    reading = Reading()
    try:
        TYPED_CLIENTS[client][1](reading, base_url, key, body)
    except openai.OpenAIError as error:
        _take_error(reading, error)
    except Exception as error:  # anthropic's own tree, or what either SDK raises for what it cannot parse
        _take_error(reading, error)
    return reading


def require_anthropic() -> Any:
    """The package, or :func:`missing`."""
    try:
        import anthropic
    except ImportError:
        missing("the Anthropic SDK (pip install anthropic)")
    return anthropic


def _take_error(reading: Reading, error: Exception) -> None:
    status = getattr(error, "status_code", None)
    reading.error = {"name": type(error).__name__, "message": str(error), "status": status}


def _read_completion(reading: Reading, base_url: str, key: str, body: Mapping[str, Any]) -> None:
    with connect(base_url, key) as client, client.completions.create(**body, stream=True) as stream:
        for chunk in stream:
            if chunk.usage:
                reading.usage = chunk.usage.model_dump()
            for choice in chunk.choices:
                reading.text += choice.text
                reading.finish_reason = choice.finish_reason or reading.finish_reason


def _read_response(reading: Reading, base_url: str, key: str, body: Mapping[str, Any]) -> None:
    with connect(base_url, key) as client, client.responses.create(**body, stream=True) as stream:
        for event in stream:
            _take_response_delta(reading, event)
            if event.type == "response.output_item.added" and event.item.type == "function_call":
                reading.tool_calls.append(_function(event.item))
            elif event.type == "response.function_call_arguments.delta":
                reading.tool_calls[-1]["arguments"] += event.delta
            elif event.type in ("response.completed", "response.incomplete"):
                _take_response(reading, event.response)


def _read_response_helper(reading: Reading, base_url: str, key: str, body: Mapping[str, Any]) -> None:
    with connect(base_url, key) as client, client.responses.stream(**body) as stream:
        for event in stream:
            _take_response_delta(reading, event)
            if event.type == "response.incomplete":
                _take_response(reading, event.response)
            elif event.type == "response.completed":
                answer = stream.get_final_response()
                reading.tool_calls = [_function(item) for item in answer.output if item.type == "function_call"]
                _take_response(reading, answer)


def _take_response_delta(reading: Reading, event: Any) -> None:
    if event.type == "response.output_text.delta":
        reading.text += event.delta
    elif event.type in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
        reading.reasoning += event.delta


def _function(item: Any) -> dict[str, Any]:
    return {"id": item.call_id, "name": item.name, "arguments": item.arguments}


def _take_response(reading: Reading, response: Any) -> None:
    reading.finish_reason = (
        "length" if response.status == "incomplete" else "tool_calls" if reading.tool_calls else "stop"
    )
    if response.usage is not None:
        usage = response.usage
        reading.usage = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}


def _connect_anthropic(base_url: str, key: str) -> Any:
    anthropic = require_anthropic()
    http_client = anthropic.DefaultHttpxClient(verify=TLS)
    url = base_url.removesuffix("/v1")
    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, http_client=http_client)


def _read_message(reading: Reading, base_url: str, key: str, body: Mapping[str, Any]) -> None:
    with _connect_anthropic(base_url, key) as client:
        usage: dict[str, int] = {}
        for event in client.messages.create(**body, max_tokens=9, stream=True):
            if event.type == "message_start":
                usage |= event.message.usage.model_dump(exclude_none=True)
            elif event.type == "content_block_start" and event.content_block.type == "tool_use":
                block = event.content_block
                reading.tool_calls.append({"id": block.id, "name": block.name, "arguments": ""})
            elif event.type == "content_block_delta":
                _take_message_delta(reading, event.delta)
            elif event.type == "message_delta":
                usage |= event.usage.model_dump(exclude_none=True)
                reading.finish_reason = FINISHES.get(event.delta.stop_reason)
                reading.usage = _openai_usage(usage)


def _take_message_delta(reading: Reading, delta: Any) -> None:
    if delta.type == "text_delta":
        reading.text += delta.text
    elif delta.type == "thinking_delta":
        reading.reasoning += delta.thinking
    elif delta.type == "input_json_delta":
        reading.tool_calls[-1]["arguments"] += delta.partial_json


def _read_message_helper(reading: Reading, base_url: str, key: str, body: Mapping[str, Any]) -> None:
    with _connect_anthropic(base_url, key) as client, client.messages.stream(**body, max_tokens=9) as stream:
        message = stream.get_final_message()
        reading.text = "".join(block.text for block in message.content if block.type == "text")
        reading.reasoning = "".join(block.thinking for block in message.content if block.type == "thinking")
        reading.tool_calls = [
            {"id": block.id, "name": block.name, "arguments": block.input}
            for block in message.content
            if block.type == "tool_use"
        ]
        reading.finish_reason = FINISHES.get(message.stop_reason or "")
        reading.usage = _openai_usage(message.usage.model_dump(exclude_none=True))


def _openai_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Anthropic counts cached input beside the rest of it, OpenAI inside."""
    inputs = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return {"prompt_tokens": sum(usage.get(name, 0) for name in inputs), "completion_tokens": usage["output_tokens"]}


TYPED_CLIENTS: dict[str, tuple[str, Reader]] = {
    "openai-python completions": ("completions", _read_completion),
    "openai-python responses": ("responses", _read_response),
    "openai-python responses.stream": ("responses", _read_response_helper),
    "anthropic messages": ("messages", _read_message),
    "anthropic messages.stream": ("messages", _read_message_helper),
}
"""The API each one reads, and how."""
