"""The corpus: one upstream body (`ID-name.in`) and what a client must read from it (`ID-name.json`) per case.

`api`, `stream`, `request`: what was asked; `http_status`, `content_type`, `headers`: the head of the upstream's answer;
`reads`: how its bytes are cut (`{"every": n}` or `{"at": [offsets]}`); `hang`: the connection stays open, silent;
`abort`: it is reset; `dialect`: what the operator had to say; `policy`: the expectation is a choice of this project;
`expect`: what the normalised stream carries (see `view.py`), where `"*"` stands for any non-empty text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """One case; `name` is the file's name without its ending."""

    name: str
    facts: dict[str, Any]
    body: bytes

    @property
    def api(self) -> str:
        return str(self.facts["api"])

    @property
    def choices(self) -> int:
        return int((self.facts["request"] or {}).get("n", 1))

    def cuts(self) -> list[int]:
        """Where the wire cuts the body."""
        reads = self.facts["reads"] or {}
        if "every" in reads:
            return list(range(reads["every"], len(self.body), reads["every"]))
        return list(reads.get("at", []))


def load_cases(folder: Path = HERE) -> list[Case]:
    """Every case, by name."""
    return [
        Case(path.stem, json.loads(path.read_text("utf-8")), path.with_suffix(".in").read_bytes())
        for path in sorted(folder.glob("*.json"))
    ]
