"""Counts tokens offline, with the vocabularies that splintr carries: https://pypi.org/project/splintr-rs/.

Exact for OpenAI's models; other vendors' chat templates add tokens that no text shows. A vocabulary is loaded at its
first use (0.4 s, some 40 MiB). Which texts of a request count is said in :mod:`sseproxy.core.tokens`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

#: By what a model's name begins with, the vendor's prefix cut off; the first match wins. Only vocabularies whose worst
#: case was measured to be linear: a client chooses both the model and the text.
_VOCABULARIES: Final = (
    (re.compile(r"gpt-4o|gpt-4\.[1-9]|gpt-[5-9]|gpt-oss|chatgpt|o[1-9](-|$)|codex"), "o200k_base"),
    (re.compile(r"gpt-4|gpt-3|text-embedding|davinci|babbage|ada"), "cl100k_base"),
    (re.compile(r"(meta-)?llama-?3"), "llama3"),
    (re.compile(r"deepseek"), "deepseek_v3"),
    (re.compile(r"qw[eq]"), "qwen3"),
)
_DEFAULT: Final = "o200k_base"
#: Characters of the slices that longer texts are counted in: every other thread waits while one is (up to 5 ms).
_SLICE: Final = 16 * 1024
#: Such a word, the first one, makes splintr build a table (0.3 s, 11 MiB) while every thread waits.
_UNKNOWN_WORD: Final = "zxqj"

#: Vocabularies by their names.
_loaded: Final[dict[str, Any]] = {}
_loading: Final = threading.Lock()


class Tokenizer:
    """Counts tokens. Safe from many threads; nothing is loaded before the first count, nor twice in a process."""

    def count(self, text: str, model: str) -> int:
        """Tokens of a text, special tokens in it counted as the plain text they are.

        :param model: as a client or an upstream calls it; an unknown one is counted as OpenAI's newest.
        :raises RuntimeError: splintr-rs is not installed.
        """
        if not text:
            return 0
        vocabulary = self._vocabulary(model)
        return sum(_count(vocabulary, piece) for piece in _slices(text))

    def _vocabulary(self, model: str) -> Any:
        name = vocabulary_of(model)
        vocabulary = _loaded.get(name)
        if vocabulary is None:
            with _loading:
                vocabulary = _loaded.get(name)  # who waited for the lock finds it loaded
                if vocabulary is None:
                    vocabulary = _loaded[name] = _load(name)
        return vocabulary


@lru_cache(256)
def vocabulary_of(model: str) -> str:
    """The name of the vocabulary a model is counted with."""
    name = model.rpartition("/")[2].lower()
    return next((vocabulary for pattern, vocabulary in _VOCABULARIES if pattern.match(name)), _DEFAULT)


def _slices(text: str) -> Iterator[str]:
    """The text in pieces, cut before a space, where no tokenizer joins two tokens.

    Without a space in its second half a piece is cut at its end: at most one token more or less.
    """
    start = 0
    while len(text) - start > _SLICE:
        end = start + _SLICE
        cut = text.rfind(" ", end - _SLICE // 2, end)
        yield text[start : (start := end if cut < 0 else cut)]
    yield text[start:]


def _count(vocabulary: Any, text: str) -> int:
    try:
        # Not encode(): that takes "<|endoftext|>" in a user's text for one token.
        return len(vocabulary.encode_ordinary(text))
    except UnicodeEncodeError:
        return len(vocabulary.encode_ordinary(text.encode(errors="replace").decode()))


def _load(name: str) -> Any:
    try:
        from splintr import Tokenizer as Splintr
    except ImportError as error:
        raise RuntimeError("Counting tokens needs the package splintr-rs: pip install splintr-rs") from error
    vocabulary = Splintr.from_pretrained(name)
    vocabulary.encode_ordinary(_UNKNOWN_WORD)
    return vocabulary
