"""What every section of the configuration is: immutable, complete, and without room for a key nobody reads."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

from sseproxy.config.values import KIND, write_duration, write_size

_WRITTEN = {"duration": write_duration, "size": write_size}


def _defaults_as_written(schema: dict[str, Any]) -> None:
    """Editors offer a default as it stands in the schema: it must be one that the file can have."""
    for key in schema["properties"].values():
        if key.get(KIND) in _WRITTEN and "default" in key:
            key["default"] = _WRITTEN[key[KIND]](key["default"])


class Section(BaseModel):
    """A mapping of the file. Attribute = YAML key; every attribute has a description for ``sseproxy schema``.

    :cvar EXAMPLE: what is shown to whoever writes something else in its place.
    """

    EXAMPLE: ClassVar = "`key: value` lines"

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        json_schema_extra=_defaults_as_written,
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, value: Any) -> Any:
        """``threads:`` with nothing after it, as when its value is commented out, is the default."""
        if not isinstance(value, dict):
            return value
        return {key: each for key, each in value.items() if each is not None or key not in cls.model_fields}
