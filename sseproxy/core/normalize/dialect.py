"""What only the operator can know of an upstream: the switches under ``upstreams.NAME.dialect``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["STANDARD", "Dialect"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one upstream departs from OpenAI where the bytes alone do not tell. The defaults are safe for all.

    :param cumulative: text chunks repeat everything before them (DashScope coding plans, QwenLM/qwen-code#3896).
        ``auto``: only when three chunks in a row have each repeated all of it, word for word; the ambiguous ones
        are held back until then. ``always`` and ``never`` need no evidence; ``always`` is said of the arguments of
        tool calls too, of which pieces alone are no evidence (NousResearch/hermes-agent#35860).
    :param think_tags: reasoning comes inside the text between ``<think>`` and ``</think>``, and is to be moved to
        ``reasoning_content``. Off: the text is left as it is.
    :param reasoning_in_total: what ``total_tokens`` counts beyond prompt and completion is billed as output (Gemini).
    """

    cumulative: Literal["auto", "always", "never"] = "auto"
    think_tags: bool = False
    reasoning_in_total: bool = True


STANDARD = Dialect()
