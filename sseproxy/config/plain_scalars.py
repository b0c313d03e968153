"""What a word without quotes stands for: in YAML 1.1 ``no`` is false, 010 is 8, 1:30 is 90 and 2024-08-06 a date.

As in YAML 1.2, which editors go by, they are text (https://yaml.org/spec/1.2.2/#103-core-schema), from which numbers
and durations are read where one is expected.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

_NUMBERS: Final = "-+0123456789."
_RESOLVED: Final = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "merge": (r"<<", ["<"]),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)", _NUMBERS),
    "float": (
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        _NUMBERS,
    ),
}
"""Tags, their words, and how these begin; all else is text."""


class Loader(yaml.SafeLoader):
    """PyYAML's own, but for what is text."""


Loader.yaml_implicit_resolvers = {}
for _tag, (_words, _begin) in _RESOLVED.items():
    _add: Any = Loader.add_implicit_resolver
    _add(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_words})\Z"), list(_begin))
