"""What is to be counted of a request, as it gathers, and the careful looks at what may be of any type. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

#: Of names, identifiers and addresses.
_LONGEST_LABEL: Final = 256


@dataclass
class Texts:
    """What is to be counted.

    :param pieces: each is tokenized by itself.
    :param overhead: tokens that stand in no text: per message, per image, per token id that was sent as a number.
    """

    pieces: list[str] = field(default_factory=list)
    overhead: int = 0

    def count(self, count: Callable[[str], int]) -> int:
        """Tokens in all.

        :param count: tokens of one text.
        """
        return max(0, self.overhead + sum(map(count, self.pieces)))

    def add(self, *values: Any) -> None:
        """Take in what is text; pass over the rest."""
        self.pieces.extend(value for value in values if isinstance(value, str) and value)


def an_object(value: Any) -> Mapping[str, Any]:
    """The value, if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects_in(values: Any) -> Iterator[Mapping[str, Any]]:
    """The objects of a list; none if it is no list."""
    return (value for value in values if isinstance(value, dict)) if isinstance(values, list) else iter(())


def as_json(value: Any) -> str:
    """The value as a model is shown it where it is shown JSON."""
    if value is None:
        return ""
    try:
        return msgspec.json.encode(value).decode()
    except RecursionError:
        return ""


def may_say_much(value: Any) -> bool:
    """Whether a value is longer than any name, identifier or number."""
    return isinstance(value, (dict, list)) or (isinstance(value, str) and len(value) > _LONGEST_LABEL)
