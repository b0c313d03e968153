"""Ready-made scripts for the controllable upstream; each returns a callable that takes the exchange. See upstream.py.

The JSON of an honest stream is the demo's, so text and counts of every API are known: one token event, one token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from sseproxy.core.failure import Failure
from sseproxy.demo import openai, typed
from sseproxy.demo.answer import answer
from sseproxy.demo.question import Question, read_chat, read_completion, read_message, read_response
from sseproxy.demo.wire import Reply, dump

from .exchange import Exchange, Headers

Script = Callable[[Exchange], None]
AnyFormat = openai.Completion | typed.Response | typed.Message
CREATED = 1767225600
SSE = (("Content-Type", "text/event-stream"),)

_APIS: dict[str, tuple[Callable[..., Question], type[AnyFormat]]] = {
    "/v1/chat/completions": (read_chat, openai.Chat),
    "/v1/completions": (read_completion, openai.Completion),
    "/v1/responses": (read_response, typed.Response),
    "/v1/messages": (read_message, typed.Message),
}


def stream(
    *,
    tokens: int | None = None,
    interval: float = 0,
    delay: float = 0,
    steps: bool = False,
    fault: str | None = None,
    after: int = 0,
    usage: str = "asked",
    done: bool = True,
    framing: str = "chunked",
    headers: Headers = SSE,
) -> Script:
    """A good answer in the API of the request's path, streamed if the request says so; also models and embeddings.

    :param tokens: per choice; else `max_tokens` of the request, else the essay's own length.
    :param interval: seconds before each token; `delay`: before the head.
    :param steps: wait for ``exchange.allow()`` before every single event, the first included.
    :param fault: after the token with the number `after`: ``cut``, ``reset``, ``hang`` or ``error`` (event, clean end).
    :param usage: ``asked`` (as OpenAI), ``always``, ``never``. :param done: whether ``[DONE]`` is sent.
    """

    def script(exchange: Exchange) -> None:
        exchange.pause(delay)
        path = exchange.path.split("?")[0]
        if path not in _APIS:
            return _answer_plain(exchange)
        try:
            reply = _reply(exchange, _APIS[path][0](exchange.body or {}), tokens, usage, done)
        except Failure as failure:
            return _json(exchange, failure.as_json(), failure.status)
        form = _APIS[path][1](reply)
        exchange.input_tokens = reply.question.input_tokens
        exchange.text = reply.answer.choices[0].text
        if not reply.question.stream:
            exchange.tokens, exchange.usage_sent = reply.answer.output_tokens, reply.tells_usage
            return _json(exchange, form.whole())
        exchange.start(200, headers, framing=framing)
        _play(exchange, form, interval, steps, fault, after)

    return script


def raw(
    body: bytes | Sequence[bytes],
    *,
    status: int = 200,
    headers: Headers = SSE,
    framing: str = "chunked",
    end: str = "clean",
    steps: bool = False,
    interval: float = 0,
    delay: float = 0,
) -> Script:
    """These very bytes, piece by piece if `body` is a sequence.

    :param framing: ``chunked``, ``close`` or ``length``. :param end: ``clean``, ``cut``, ``reset`` or ``hang``.
    With ``length`` and another end than ``clean`` one byte more is promised than is sent.
    """
    pieces = [body] if isinstance(body, bytes) else list(body)

    def script(exchange: Exchange) -> None:
        exchange.pause(delay)
        exchange.start(status, headers, framing=framing, length=sum(map(len, pieces)) + (end != "clean"))
        for piece in pieces:
            if steps:
                exchange.step()
            exchange.pause(interval)
            exchange.write(piece)
        _end(exchange, end)

    return script


def refuse(status: int, message: str = "no", *, body: bytes | None = None, headers: Headers = ()) -> Script:
    """An error in OpenAI's shape, or `body` as it is."""
    content = body if body is not None else dump(Failure(message, type="invalid_request_error").as_json())
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    if not any(name.lower() == "content-type" for name, _ in pairs):
        pairs.append(("Content-Type", "application/json"))
    return raw(content, status=status, headers=pairs, framing="length")


def refuse_stream_options(then: Script | None = None, status: int = 400) -> Script:
    """As servers that are older than the field: 400 that names it while it is there, else `then`."""

    def script(exchange: Exchange) -> None:
        if "stream_options" in (exchange.body or {}):
            refuse(status, "Unrecognized request argument supplied: stream_options")(exchange)
        else:
            (then or stream())(exchange)

    return script


def silent() -> Script:
    """Never a byte, not even a head."""
    return Exchange.hang


def choose(pick: Callable[[Exchange], Script]) -> Script:
    """For each request the script that `pick` returns for it."""
    return lambda exchange: pick(exchange)(exchange)


def _reply(exchange: Exchange, question: Question, tokens: int | None, usage: str, done: bool) -> Reply:
    wanted = (tokens, question.script.tokens, question.max_tokens)
    tokens = next((number for number in wanted if number is not None), None)
    fault = "no_usage" if usage == "never" else None if done else "no_done"
    question = replace(question, script=replace(question.script, tokens=tokens, fault=fault))
    if usage == "always":
        question = replace(question, include_usage=True)
    return Reply(question, answer(question), f"{len(exchange.raw_body):08x}", CREATED)


def _tells_usage(form: AnyFormat) -> bool:
    reply = form.reply
    return reply.tells_usage and (reply.question.include_usage or isinstance(form, typed.Response | typed.Message))


def _play(exchange: Exchange, form: AnyFormat, interval: float, steps: bool, fault: str | None, after: int) -> None:
    def send(events: Iterable[bytes], tokens: int = 0) -> None:
        for event in events:
            if steps:
                exchange.step()
            # Counted before it is sent: an upstream bills what it made, whether or not it left.
            exchange.tokens += tokens
            exchange.write(event)

    send(form.opening())
    for number, event in enumerate(form.tokens()):
        if fault and number >= after:
            break
        exchange.pause(interval)
        send([event], tokens=1)
    if fault == "error":
        send([form.failure(Failure("the upstream broke", code="upstream_broke"))])
    elif not fault:
        exchange.usage_sent = _tells_usage(form)
        send(form.closing())
    _end(exchange, fault if fault in ("cut", "reset", "hang") else "clean")


def _end(exchange: Exchange, end: str) -> None:
    {"clean": exchange.finish, "cut": exchange.cut, "reset": exchange.reset, "hang": exchange.hang}[end]()


def _answer_plain(exchange: Exchange) -> None:
    if exchange.path == "/v1/models":
        _json(exchange, openai.models())
    elif exchange.path == "/v1/embeddings":
        body = openai.embeddings(exchange.body)
        exchange.input_tokens, exchange.usage_sent = body["usage"]["prompt_tokens"], True
        _json(exchange, body)
    else:
        _json(exchange, Failure(f"unknown path {exchange.path}", code="unknown_url").as_json(), 404)


def _json(exchange: Exchange, value: object, status: int = 200) -> None:
    body = json.dumps(value).encode()
    exchange.start(status, {"Content-Type": "application/json"}, framing="length", length=len(body))
    exchange.write(body)
