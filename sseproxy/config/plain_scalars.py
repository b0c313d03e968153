"""What a word without quotes stands for: in YAML 1.1 ``no`` is false, 010 is 8, 1:30 is 90 and 2024-08-06 a date.

Here, as in YAML 1.2, which editors go by, 010 is 10 and the others are text
(https://yaml.org/spec/1.2.2/#1032-tag-resolution). ``<<`` alone is kept from 1.1, for what it does nothing else can.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import yaml

_NUMBERS: Final = "-+0123456789."
_RESOLVED: Final = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "merge": (r"<<", ["<"]),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", _NUMBERS),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        _NUMBERS,
    ),
}
"""Tags, their words, and how these begin; all else is text."""


class Loader(yaml.SafeLoader):
    """PyYAML's own, but for what is text."""


class Constructor(yaml.constructor.SafeConstructor):
    """PyYAML's own, but for whole numbers."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        written = str(self.construct_scalar(node))
        return int(written, 0 if written[:2] in ("0o", "0x") else 10)

    yaml_constructors: ClassVar = {
        **yaml.constructor.SafeConstructor.yaml_constructors,
        "tag:yaml.org,2002:int": construct_yaml_int,
    }


Loader.yaml_implicit_resolvers = {}
for _tag, (_words, _begin) in _RESOLVED.items():
    _add: Any = Loader.add_implicit_resolver
    _add(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_words})\Z"), list(_begin))
