"""What tools and schemas count as: functions as measured by OpenAI, schemas of answers as the text that they are. Pure.

https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, Final

from sseproxy.core.texts import Texts, an_object, as_json, may_say_much

_PER_TOOL: Final = 7
_PER_OBJECT: Final = 3
_PER_PROPERTY: Final = 3
_ENUM: Final = -3
_PER_ENUM_VALUE: Final = 3
_TOOLS_END: Final = 12
#: A schema that is nested deeper is counted as its text.
_DEEPEST: Final = 24
#: What is counted in its own way of any schema, and of that of a property.
_OF_ANY: Final = frozenset(("type", "description", "properties", "required"))
_OF_PROPERTY: Final = _OF_ANY | {"enum", "items"}


def add_functions(functions: list[Mapping[str, Any]], texts: Texts) -> None:
    """Take in tools that are functions."""
    for function in functions:
        texts.overhead += _PER_TOOL
        texts.add(f"{function.get('name') or ''}:{_description(function)}")
        _add_properties(an_object(function.get("parameters")), texts, _OF_ANY)
    texts.overhead += _TOOLS_END if functions else 0


def add_schema(form: Mapping[str, Any], texts: Texts) -> None:
    """Take in the schema an answer must follow, which is shown to the model as text."""
    if isinstance(form.get("schema"), dict):
        texts.add(form.get("name"), form.get("description"), as_json(form["schema"]))


def _add_properties(schema: Mapping[str, Any], texts: Texts, known: Set[str], depth: int = 0) -> None:
    if depth > _DEEPEST:
        return texts.add(as_json(schema))
    if rest := {key: value for key, value in schema.items() if key not in known and may_say_much(value)}:
        texts.add(as_json(rest))
    properties = an_object(schema.get("properties"))
    texts.overhead += _PER_OBJECT if properties else 0
    for name, value in properties.items():
        about = an_object(value)
        texts.overhead += _PER_PROPERTY
        choices = about.get("enum")
        if isinstance(choices, list):
            texts.overhead += _ENUM + _PER_ENUM_VALUE * len(choices)
            texts.add(*map(str, choices))
        texts.add(f"{name}:{about.get('type') or ''}:{_description(about)}")
        _add_properties(about, texts, _OF_PROPERTY, depth + 1)
        _add_properties(an_object(about.get("items")), texts, _OF_ANY, depth + 1)


def _description(about: Mapping[str, Any]) -> str:
    text = about.get("description")
    return text.removesuffix(".") if isinstance(text, str) else ""
