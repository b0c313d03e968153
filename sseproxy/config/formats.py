"""The key ``format`` of a route: how its events look to the client. A name, or a mapping with more to say."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from sseproxy.config.problem import listed
from sseproxy.config.section import Section
from sseproxy.config.values import Expected, Text, kind
from sseproxy.core import formats
from sseproxy.core.formats import Format

_TYPES: Final[dict[str, Any]] = {
    "openai": formats.OpenAI,
    "text": formats.Text,
    "envelope": formats.Envelope,
    "plain": formats.Plain,
}
_KEYS: Final = {name: [field.name for field in fields(made) if field.init] for name, made in _TYPES.items()}


def _as_schema(schema: dict[str, Any]) -> None:
    """A name, or the mapping."""
    mapping = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"type": "string", "enum": list(_KEYS)}, mapping]


class RouteFormat(Section):
    """A format by its name, or a mapping with ``type`` and the keys that go with it."""

    model_config = ConfigDict(json_schema_extra=_as_schema)

    type: Literal["openai", "text", "envelope", "plain"] = Field(
        default="openai",
        description="`openai`: chunks as `/v1/chat/completions` streams them; `text`: bare text in `data:`; "
        "`envelope`: JSON of your own; `plain`: no events, `text/plain`.",
    )
    event: Text | None = Field(
        default=None,
        description="Name of every event (`event:`), for clients that say `Accept: text/event-stream`; not for "
        "`plain`.",
    )
    newline: Text | None = Field(
        default=None,
        description="`text`: what a line end is sent as, in an event of its own, such as `[ENTRY]`. Without it: "
        "several `data:` lines, which an EventSource joins.",
    )
    template: Any = Field(
        default=None,
        description='`envelope`: JSON of each event, `{message: "{text}", data: null}`; `{text}`, `{id}` and '
        "`{model}` are filled in.",
    )
    done: Any = Field(
        default=None,
        description='The last event of a whole answer. `text`: `[DONE]`. `envelope`: JSON, `{message: "[DONE]", '
        'data: {$json: {assistantContent: "{answer}"}}}`; `{answer}`, `{id}`, `{model}`, '
        "`{finish_reason}` and `{cost}` are filled in.",
    )
    error: Any = Field(
        default=None,
        description="The last event of an answer that failed, where `{message}` is the reason. `text`: `[ERROR] "
        "{message}`; `plain`: none, the body breaks off; `envelope`: JSON.",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_is_type(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"type": value}
        if isinstance(value, (dict, cls)):
            return value
        raise Expected(f"expected {listed(_KEYS)}, or a mapping with such a type, not {kind(value)}")

    @field_validator("event", "newline", "template", "done", "error")
    @classmethod
    def _fits(cls, value: Any, info: ValidationInfo) -> Any:
        """Each key on its own, so that a problem names the key it is in."""
        chosen, name = info.data.get("type"), info.field_name
        if chosen is None or name is None:
            return value
        if name not in _KEYS[chosen]:
            fitting = listed(each for each in _KEYS if name in _KEYS[each])
            raise Expected(f"format {chosen} has no {name}: it goes with type {fitting}")
        if chosen != "envelope" and not isinstance(value, str):
            raise Expected(f"expected text, not {kind(value)}; put it in quotes")
        if chosen != "text":  # whose marks only show together whether they can be told apart
            _made(chosen, {name: value})
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> RouteFormat:
        self.build()
        return self

    def build(self) -> Format:
        """The format itself.

        :raises Expected: its keys do not go together.
        """
        given = {name: getattr(self, name) for name in _KEYS[self.type]}
        return _made(self.type, {name: value for name, value in given.items() if value is not None})


def _made(chosen: str, given: dict[str, Any]) -> Format:
    try:
        made: Format = _TYPES[chosen](**given)
    except ValueError as error:
        raise Expected(str(error)) from None
    return made
