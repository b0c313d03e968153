"""What the demo answers to a question: pieces per choice, and why each choice ends. Pure; knows no API's JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from sseproxy.demo.essay import pieces_of, write_essay, write_pieces
from sseproxy.demo.question import Question, Tool


@dataclass(frozen=True)
class Choice:
    """One choice: `pieces`, a token each (of a tool call the name, then its arguments), and its `finish_reason`."""

    pieces: tuple[str, ...]
    finish: str

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces[1:])


@dataclass(frozen=True)
class Answer:
    """All choices."""

    choices: tuple[Choice, ...]

    @property
    def output_tokens(self) -> int:
        return sum(len(choice.pieces) for choice in self.choices)

    def tokens(self) -> Iterator[tuple[int, int, str]]:
        """(choice, position in it, piece), the choices in turn, as they are streamed."""
        for position, row in enumerate(zip_longest(*(choice.pieces for choice in self.choices))):
            for index, piece in enumerate(row):
                if piece is not None:
                    yield index, position, piece


def answer(question: Question) -> Answer:
    """The same for the same question, always."""
    return Answer(tuple(_choice(question, index) for index in range(question.choices)))


def _choice(question: Question, index: int) -> Choice:
    if question.tool:
        pieces, finish = _call(question.tool, question.question), "tool_calls"
    else:
        pieces, finish = _pieces(question, index), "stop"
    if question.max_tokens is not None and len(pieces) > question.max_tokens:
        pieces, finish = pieces[: question.max_tokens], "length"
    return Choice(tuple(pieces), finish)


def _pieces(question: Question, index: int) -> list[str]:
    if question.script.tokens is not None:
        pieces = write_pieces(question.question, question.instructions, index, question.script.tokens)
    else:
        pieces = pieces_of(write_essay(question.question, question.instructions, index))
    if not question.stop:
        return pieces
    text = "".join(pieces)
    ends = [at for stop in question.stop if (at := text.find(stop)) >= 0]
    return pieces_of(text[: min(ends)]) if ends else pieces


def _call(tool: Tool, question: str) -> list[str]:
    arguments = json.dumps(_example(tool.parameters, question), ensure_ascii=False)
    return [tool.name, *pieces_of(arguments)]


def _example(schema: object, question: str, depth: int = 0) -> Any:
    """A value that fits the JSON Schema, made of the question's words; enough of a schema for a demo."""
    if not isinstance(schema, Mapping) or depth > 8:
        return None
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    match schema.get("type"):
        case "string":
            return question
        case "integer" | "number":
            return len(question.split())
        case "boolean":
            return True
        case "array":
            return [_example(schema.get("items"), question, depth + 1)]
        case "null":
            return None
    properties = schema.get("properties")
    fields = properties.items() if isinstance(properties, Mapping) else ()
    return {name: _example(field, question, depth + 1) for name, field in fields}
