"""Text that may stand in a file beside the configuration: ``TEXT`` or ``{file: PATH}``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

from sseproxy.config.values import KIND, Expected, kind


def _contents(value: object, info: ValidationInfo) -> object:
    if isinstance(value, dict):
        return _text_of(value, Path((info.context or {}).get("directory", ".")))
    if isinstance(value, str):
        return value
    raise Expected(f"expected text or {{file: PATH}}, not {kind(value)}")


def _text_of(value: dict[Any, Any], directory: Path) -> str:
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


Contents = Annotated[
    str,
    BeforeValidator(_contents),
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
            ],
            KIND: "text or file",
        }
    ),
]
