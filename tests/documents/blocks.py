"""The fenced blocks of a Markdown page. https://spec.commonmark.org/0.31.2/#fenced-code-blocks"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.harness.servers import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
#: What nobody runs: output, pictures, files of other programs that stand in deploy/ and are tested there.
SHOWN = ("", "text")
CODE = ("sh", "yaml", "python", "javascript", "json")
_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One block.

    :ivar line: that of its first line of code, from 1.
    :ivar reason: why it cannot be run; None: it can.
    """

    page: Path
    line: int
    language: str
    code: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that it says it is, in a comment on its first line: ``# config.yaml``."""
        named = re.match(r"(?:#|//) ([\w./-]+\.(?:yaml|py|mjs|js))\b", self.code)
        return named[1] if named else None

    @property
    def is_served(self) -> bool:
        """Whether it is a module that a server of its page runs: ``app.py``, then ``waitress-serve … app:app``."""
        name = (self.file or "").removesuffix(".py")
        commands = "".join(block.code for block in blocks_of(self.page) if block.language == "sh")
        return bool(name) and re.search(rf"[ \"]{name}:\w", commands) is not None


def blocks_of(page: Path) -> list[Block]:
    """Every block of `page`, in order."""
    text = page.read_text("utf-8")
    return [
        Block(page, text.count("\n", 0, found.start("code")) + 1, found["language"], found["code"], found["reason"])
        for found in _BLOCK.finditer(text)
    ]
