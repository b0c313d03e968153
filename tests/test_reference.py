"""docs/reference.py: tables of keys out of a JSON Schema."""

from __future__ import annotations

import pytest
from pydantic import Field

from docs.reference import Reference, Row, with_tables
from sseproxy.config.section import Section
from sseproxy.config.values import Duration, Size, Text


class Inner(Section):
    """A section in a section."""

    wait: Duration = Field(default=90.0, description="How long.")


class Outer(Section):
    """A section."""

    name: Text = Field(description="Its name.")
    size: Size = Field(default=64 * 1024, description="How large: a|b.")
    always: Inner = Field(default_factory=Inner, description="Always there.")
    perhaps: Inner | None = Field(default=None, description="Perhaps there.")
    each: dict[str, Inner] = Field(default_factory=dict, description="By name.")


class Whole(Section):
    """A file."""

    outer: Outer = Field(description="The section.")


SCHEMA = Whole.model_json_schema()
TABLE = "| key | default | |\n|---|---|---|\n| old | old | old |\n"


def test_each_key_has_a_row_with_its_kind_and_its_default_as_the_file_has_it() -> None:
    assert list(Reference(SCHEMA).rows("outer")) == [
        Row("outer.name", "text", "required", "Its name."),
        Row("outer.size", "size", "`64KiB`", "How large: a|b."),
        Row("outer.always.wait", "duration", "`90s`", "How long."),
        Row("outer.perhaps", "mapping", "none", "Perhaps there."),
        Row("outer.perhaps.wait", "duration", "`90s`", "How long."),
        Row("outer.each.NAME.wait", "duration", "`90s`", "How long."),
    ]


def test_a_bar_does_not_end_its_cell() -> None:
    row = next(row for row in Reference(SCHEMA).rows("outer") if row.key == "outer.size")

    assert row.as_markdown() == r"| `outer.size` | size | `64KiB` | How large: a\|b. |" + "\n"


def test_the_prose_around_a_table_stays() -> None:
    document = f"# Title\n\n## outer\n\nBefore.\n\n{TABLE}\nAfter.\n\n## other\n\n{TABLE}"
    made = with_tables(document, SCHEMA)

    assert made.startswith("# Title\n\n## outer\n\nBefore.\n\n| key | type | default | |\n")
    assert made.endswith(f"\nAfter.\n\n## other\n\n{TABLE}")
    assert "old" not in made.partition("## other")[0]
    assert with_tables(made, SCHEMA) == made


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (f"## other\n\n{TABLE}", "no heading for outer"),
        ("## outer\n\nNo table.\n", "0 tables"),
        (f"## outer\n\n{TABLE}\n{TABLE}", "2 tables"),
    ],
)
def test_a_section_without_its_place_is_a_problem(document: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        with_tables(document, SCHEMA)
