"""docs/configuration.md and config.yaml say what is so: every key, its default, every flag."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from pydantic import SecretStr, TypeAdapter

from docs.reference import with_tables
from sseproxy.cli import main
from sseproxy.config import Config
from sseproxy.config.explain import fields_at, keys_of, section_at
from sseproxy.config.fixed import FIXED

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "configuration.md").read_text("utf-8")
ROW = re.compile(r"^\| `(?P<key>[\w.]+)` \| [^|]+ \| (?P<default>[^|]+) \|", re.M)
DEFAULTS = {match["key"]: match["default"].strip() for match in ROW.finditer(DOCUMENT)}
KEYS = list(keys_of(Config))
#: Sections and groups of keys: they stand as headings or as the first part of their keys.
LEAVES = [key for key in KEYS if not any(other[: len(key)] == key and other != key for other in KEYS)]


def commands(group: click.Group, name: str = "sseproxy") -> Iterator[tuple[str, click.Command]]:
    for each, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {each}")
        else:
            yield f"{name} {each}", command


def test_the_tables_are_those_of_the_schema() -> None:
    assert with_tables(DOCUMENT, Config.model_json_schema()) == DOCUMENT, "run `make docs`"


@pytest.mark.parametrize("key", LEAVES, ids=".".join)
def test_every_key_stands_in_the_reference(key: tuple[str, ...]) -> None:
    assert ".".join(key) in DEFAULTS


def test_the_reference_names_no_key_that_does_not_exist() -> None:
    assert [key for key in DEFAULTS if tuple(key.split(".")) not in KEYS] == []


def test_operations_lists_what_a_reload_does_not_change() -> None:
    operations = (ROOT / "docs" / "operations.md").read_text("utf-8")
    listed = re.search(r"named in the log if they differ: (.+?)\. ", operations, re.S)
    assert listed is not None
    told = {}
    for keys in listed[1].split(";"):  # the section stands before the first of its keys
        first, *others = re.findall(r"`([a-z_.]+)`", keys)
        section, _, key = first.partition(".")
        told[section] = (key, *others)

    assert told == FIXED


@pytest.mark.parametrize("section", list(Config.model_fields))
def test_every_section_has_a_heading(section: str) -> None:
    assert f"\n## {section}\n" in DOCUMENT


@pytest.mark.parametrize("key", [key for key in DEFAULTS if DEFAULTS[key].startswith("`")])
def test_the_default_in_the_reference_is_the_default(key: str) -> None:
    """What is written there, read as the file would be, is what the key has when it is not given."""
    *parent, name = key.split(".")
    section = section_at(tuple(parent), Config)
    assert section is not None
    written: Any = yaml.safe_load(DEFAULTS[key].strip("`"))
    field = section.model_fields[name]
    read = TypeAdapter(field.rebuild_annotation()).validate_python(written)

    assert plain(read) == plain(field.get_default(call_default_factory=True))


def plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def test_the_example_shows_every_section_and_every_key_of_the_small_ones() -> None:
    example = (ROOT / "config.yaml").read_text("utf-8")

    for key in LEAVES:
        assert re.search(rf"\b{key[-1]}\b", example), ".".join(key)


@pytest.mark.parametrize(("name", "command"), list(commands(main)))
def test_every_command_and_flag_stands_in_the_reference(name: str, command: click.Command) -> None:
    line = next(line for line in DOCUMENT.splitlines() if line.startswith(f"| `{name}"))
    flags = {option for parameter in command.params if isinstance(parameter, click.Option) for option in parameter.opts}

    assert [flag for flag in flags - {"-c", "--config"} if f"`{flag}" not in line] == []
    assert "-c" in flags


def test_every_documented_flag_exists() -> None:
    existing = {option for _, command in commands(main) for parameter in command.params for option in parameter.opts}

    assert set(re.findall(r"`(--[a-z-]+)", DOCUMENT)) <= existing


def test_the_choices_of_a_key_stand_in_its_row() -> None:
    for key in LEAVES:
        annotation = fields_at(key[:-1], Config)[key[-1]]
        row = next(line for line in DOCUMENT.splitlines() if line.startswith(f"| `{'.'.join(key)}` "))
        for choice in getattr(annotation, "__args__", ()) if "Literal" in str(annotation) else ():
            assert f"`{choice}`" in row, (key, choice)


def test_prices_in_the_example_are_money() -> None:
    price = Config.load(ROOT / "config.yaml").models["demo*"].price

    assert price is not None and isinstance(price.input, Decimal)
