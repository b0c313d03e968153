"""README.md and docs/ are run, not believed: each block of code, from the top of its page to its end; each link too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import brisk
from tests.documents.blocks import CODE, PAGES, SHOWN, blocks_of
from tests.documents.session import Session
from tests.harness import waitress_thread
from tests.harness.servers import ROOT

ALL = [block for page in PAGES for block in blocks_of(page)]
WITH_CODE = sorted({block.page for block in ALL if block.language in CODE})
LINKED = (
    *PAGES,
    *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "examples/README.md", "deploy/README.md")),
)
LINK = re.compile(r"\[[^\]]+\]\((?!\w+:)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")


@pytest.fixture(scope="module")
def vendor() -> Iterator[str]:
    """The demo, in place of an API on the internet."""
    with waitress_thread(brisk.app) as running:
        yield running.url


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_works_one_after_the_other(page: Path, vendor: str, tmp_path: Path) -> None:
    session = Session(tmp_path, vendor)
    blocks = [block for block in blocks_of(page) if block.language in CODE]
    try:
        for block in blocks:
            print(f"---- {block}{f' not run: {block.reason}' if block.reason else ''}")
            if block.reason:
                session.parse(block)
            else:
                session.run(block)
        session.finish()
    finally:
        session.close()


def test_every_block_is_of_a_language_that_is_known_here() -> None:
    assert [str(block) for block in ALL if block.language not in (*CODE, *SHOWN)] == []


def test_blocks_that_are_not_run_are_few_and_say_why(record_property: pytest.RecordProperty) -> None:
    left = [f"{block}: {block.reason}" for block in ALL if block.reason]
    run = sum(block.language in CODE for block in ALL) - len(left)
    record_property("blocks_run", run)
    print(f"{run} blocks are run, {len(left)} are not:", *left, sep="\n")

    assert len(left) * 5 <= run


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.finditer(page.read_text("utf-8")):
        target = (page.parent / link["path"]).resolve() if link["path"] else page
        assert target.exists(), link[0]
        if link["anchor"]:
            assert link["anchor"] in anchors(target), link[0]


def anchors(page: Path) -> set[str]:
    """What a heading can be linked by, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
