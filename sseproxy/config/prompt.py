"""The section ``prompt``: the text that goes before what clients send, byte for byte the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema

from sseproxy.config.section import Section
from sseproxy.config.values import Expected, kind


def _prefix(value: object, info: ValidationInfo) -> object:
    if isinstance(value, dict):
        return _contents(value, Path((info.context or {}).get("directory", ".")))
    if isinstance(value, str):
        return value
    raise Expected(f"expected text or {{file: PATH}}, not {kind(value)}")


def _contents(value: dict[Any, Any], directory: Path) -> str:
    """The text of ``{file: …}``, without the newline that editors put at the end."""
    name = value.get("file")
    if set(value) != {"file"} or not isinstance(name, str) or not name:
        raise Expected("expected text or {file: PATH}")
    try:
        return (directory / name).read_text(encoding="utf-8-sig").rstrip("\n")
    except OSError as error:
        raise Expected(f"{name} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise Expected(f"{name} is not UTF-8 text") from None


Prefix = Annotated[
    str,
    BeforeValidator(_prefix),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"file": {"type": "string"}},
                    "required": ["file"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class PromptFor(Section):
    """The prefix for one model or one user."""

    prefix: Prefix | None = Field(default=None, description="Replaces the general prefix; an empty text means none.")


class Prompt(Section):
    """What goes before the client's messages. The more specific wins: user, then model, then the general prefix."""

    prefix: Prefix | None = Field(default=None, description="Text, or {file: PATH} relative to the configuration file.")
    role: Literal["system", "developer"] = Field(
        default="system", description="Role of the prefix among chat messages."
    )
    client_system: Literal["keep", "merge", "drop", "reject"] = Field(
        default="keep",
        description="The client's own system messages: keep (after the prefix), merge (into one), drop, reject (400).",
    )
    models: dict[str, PromptFor] = Field(default_factory=dict, description="Prefixes by model.")
    users: dict[str, PromptFor] = Field(default_factory=dict, description="Prefixes by user.")
