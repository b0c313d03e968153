"""A request to the demo, checked as OpenAI checks it and brought to one form for every API. No I/O, no WSGI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sseproxy.demo.essay import count_words
from sseproxy.demo.faults import Script, bad_request, read_script

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Tool:
    """A function that must be called, and the JSON Schema of its arguments."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    """What is to be answered."""

    model: str
    question: str
    instructions: str
    input_tokens: int
    stream: bool
    include_usage: bool
    choices: int
    max_tokens: int | None
    stop: tuple[str, ...]
    tool: Tool | None
    script: Script


def read_chat(body: Body) -> Question:
    """``/v1/chat/completions``. :raises Failure: status 400."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages must be a non-empty array", "messages")
    return _question(body, messages, ("max_completion_tokens", "max_tokens"), tool=read_tool(body))


def read_completion(body: Body) -> Question:
    """``/v1/completions``: one prompt, a string or an array of strings (joined). :raises Failure: status 400."""
    prompt = body.get("prompt")
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise bad_request("prompt must be a string or an array of strings", "prompt")
    return _question(body, [{"role": "user", "content": "\n".join(texts)}], ("max_tokens",))


def read_response(body: Body) -> Question:
    """``/v1/responses``; text only. :raises Failure: status 400."""
    given = body.get("input")
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(messages, list) or not messages:
        raise bad_request("input must be a string or a non-empty array", "input")
    if instructions := _string(body, "instructions"):
        messages = [{"role": "system", "content": instructions}, *messages]
    return _question(body, messages, ("max_output_tokens",))


def read_message(body: Body) -> Question:
    """``/v1/messages``, Anthropic's; text only. :raises Failure: status 400."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages: at least one message is required", "messages")
    if body.get("max_tokens") is None:
        raise bad_request("max_tokens: Field required", "max_tokens")
    if system := body.get("system"):
        messages = [{"role": "system", "content": system}, *messages]
    return _question(body, messages, ("max_tokens",))


def read_model(body: Body) -> str:
    """The model asked for; any name is served. :raises Failure: status 400."""
    model = _string(body, "model")
    if not model:
        raise bad_request("you must provide a model parameter", "model")
    return model


def read_tool(body: Body) -> Tool | None:
    """The function that `tool_choice` obliges the model to call, if it does."""
    choice = body.get("tool_choice")
    tools = body.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise bad_request("tools must be an array of objects", "tools")
    if choice in (None, "none", "auto"):
        return None
    function = choice.get("function") if isinstance(choice, dict) else None
    wanted = function.get("name") if isinstance(function, dict) else None
    for offered in (tool["function"] for tool in tools if isinstance(tool.get("function"), dict)):
        if wanted in (None, offered.get("name")):
            parameters = offered.get("parameters")
            return Tool(str(offered.get("name")), parameters if isinstance(parameters, dict) else {})
    raise bad_request(f"tool_choice names no function of tools: {wanted or choice}", "tool_choice")


def text_of(content: object) -> str:
    """The text of a message's content: a string, or parts of which those that have a `text` count."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "\n".join(text for text in texts if isinstance(text, str))
    return ""


def _question(body: Body, messages: list[Any], limits: tuple[str, ...], tool: Tool | None = None) -> Question:
    said = _said(messages)
    return Question(
        model=read_model(body),
        question=said["user"][-1] if said["user"] else "",
        instructions="\n".join(said["system"]),
        input_tokens=sum(count_words(text) for texts in said.values() for text in texts),
        stream=bool(body.get("stream")),
        include_usage=_include_usage(body),
        choices=_number(body, "n", 1, 16) or 1,
        max_tokens=next((limit for name in limits if (limit := _number(body, name, 1, 1_000_000))), None),
        stop=_stop(body),
        tool=tool,
        script=read_script(body),
    )


def _said(messages: list[Any]) -> dict[str, list[str]]:
    said: dict[str, list[str]] = {"system": [], "user": [], "other": []}
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role", "user"), str):
            raise bad_request(f"messages[{index}] must be an object with a role", f"messages[{index}]")
        role = message.get("role", "user").replace("developer", "system")
        said[role if role in said else "other"].append(text_of(message.get("content")))
    return said


def _include_usage(body: Body) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise bad_request("stream_options must be an object", "stream_options")
    if not body.get("stream"):
        raise bad_request("stream_options is only allowed when stream is enabled", "stream_options")
    return bool(options.get("include_usage"))


def _stop(body: Body) -> tuple[str, ...]:
    stop = body.get("stop") or ()
    texts = (stop,) if isinstance(stop, str) else stop
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) and text for text in texts):
        raise bad_request("stop must be a string or an array of strings", "stop")
    return tuple(texts)


def _number(body: Body, name: str, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise bad_request(f"{name} must be an integer from {least} to {most}", name)
    return value


def _string(body: Body, name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_request(f"{name} must be a string", name)
    return value
