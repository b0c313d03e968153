"""Writes the tables of configuration.md out of the schema of the file: ``make docs``.

What a key means is said once, in the description of its field; the prose around the tables is written by hand. A table
stands under the heading of its section, one each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sseproxy.config import Config
from sseproxy.config.values import KIND

DOCUMENT = Path(__file__).with_name("configuration.md")
HEAD = "| key | type | default | |\n|---|---|---|---|\n"
_TABLE = re.compile(r"^\| key \| .*\n(?:\|.*\n)+", re.M)
_HEADING = re.compile(r"^## (\w+)\n", re.M)
_NAMES = {"string": "text", "boolean": "true or false", "array": "list", "object": "mapping"}

Schema = dict[str, Any]


class Row(NamedTuple):
    """One key of the file."""

    key: str
    kind: str
    default: str
    description: str

    def as_markdown(self) -> str:
        """The row. A bar would end its cell."""
        return f"| `{self.key}` | " + " | ".join(each.replace("|", r"\|") for each in self[1:]) + " |\n"


class Reference:
    """The keys that a schema has, from the top.

    :param schema: as ``Config.model_json_schema()`` gives it.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def rows(self, section: str) -> Iterator[Row]:
        """Every key of `section`; ``NAME`` stands for the names that the file's writer chooses."""
        yield from self._within(self._schema["properties"][section], section)

    def _within(self, node: Schema, path: str) -> Iterator[Row]:
        for form in self._forms(node):
            for name, key in form.get("properties", {}).items():
                yield from self._key(key, f"{path}.{name}", name in form.get("required", ()))
            if isinstance(form.get("additionalProperties"), dict):
                yield from self._within(form["additionalProperties"], f"{path}.NAME")

    def _key(self, key: Schema, path: str, required: bool) -> Iterator[Row]:
        inside = [] if KIND in key else list(self._within(key, path))
        # A section that is always there has nothing to say but its keys.
        if not inside or "default" in key or required:
            yield Row(path, self._kind(key), _default(key, required), key["description"])
        yield from inside

    def _forms(self, node: Schema) -> Iterator[Schema]:
        """What a value may be, each with its references followed; nothing at all is not told."""
        if "$ref" in node:
            node = self._schema["$defs"][node["$ref"].rpartition("/")[2]]
        if "anyOf" not in node or KIND in node:
            yield from [] if node.get("type") == "null" else [node]
        for each in () if KIND in node else node.get("anyOf", ()):
            yield from self._forms(each)

    def _kind(self, node: Schema) -> str:
        return " or ".join(dict.fromkeys(map(_name, self._forms(node))))


def _name(form: Schema) -> str:
    if KIND in form:
        return str(form[KIND])
    if "enum" in form:
        return ", ".join(f"`{choice}`" for choice in form["enum"])
    return _NAMES.get(form.get("type", ""), "text or JSON")


def _default(key: Schema, required: bool) -> str:
    value = key.get("default", {} if key.get("type") == "object" else None)
    if value is None:
        return "required" if required else "none"
    written = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{written}`".replace("'", '"')


def with_tables(document: str, schema: Schema) -> str:
    """`document` with the table of each section as `schema` has it.

    :raises ValueError: a section has no heading, or no table below it.
    """
    reference = Reference(schema)
    parts = _HEADING.split(document)
    missing = set(schema["properties"]) - set(parts[1::2])
    if missing:
        raise ValueError(f"{DOCUMENT.name}: no heading for {', '.join(sorted(missing))}")
    for place in range(1, len(parts), 2):
        section = parts[place]
        if section in schema["properties"]:
            table = HEAD + "".join(row.as_markdown() for row in reference.rows(section))
            parts[place + 1], found = _TABLE.subn(lambda _, table=table: table, parts[place + 1])
            if found != 1:
                raise ValueError(f"{DOCUMENT.name}: {found} tables of keys under ## {section}; expected one")
        parts[place] = f"## {section}\n"
    return "".join(parts)


def main() -> None:
    """Bring the tables up to date."""
    before = DOCUMENT.read_text("utf-8")
    after = with_tables(before, Config.model_json_schema())
    DOCUMENT.write_text(after, "utf-8")
    print(f"{DOCUMENT.name}: {'changed' if after != before else 'is up to date'}")


if __name__ == "__main__":
    main()
