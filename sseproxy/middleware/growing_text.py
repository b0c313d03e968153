"""One text of an answer as it grows. Its tokens are counted on demand; of a long text the beginning is counted once and
dropped.

Cutting a text must not change its count, so only whole words are dropped: no tokenizer joins two tokens at a space.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from io import StringIO
from typing import Final

COUNT_AT: Final = 128 * 1024
"""Characters that are kept before they are counted, which bounds memory. Twice the size of a read: the rest may pass
uncounted."""
LONGEST_WORD: Final = 1024
"""Characters at the end that are counted anew each time; a longer word is cut, which may cost a token."""

Count = Callable[[str], int]


class GrowingText:
    """Its tokens may be counted in one thread while another adds to it.

    :ivar kept: the text that is not dropped; callers write to it, and count it at :data:`COUNT_AT`.
    """

    _counted = 0
    _noted = (0, 0)

    def __init__(self) -> None:
        self.kept = StringIO()
        self._cutting = threading.Lock()

    def room(self) -> int:
        """Characters that may be added before some are counted, which takes a while."""
        return COUNT_AT - self.kept.tell()

    def tokens(self, count: Count) -> int:
        """Tokens of all of it."""
        return self._counted + count(self.kept.getvalue())

    def tokens_so_far(self, count: Count) -> int:
        """The same, from another thread; counts only what is new since the last call, and the last word again."""
        with self._cutting:
            seen, tokens = self._noted
            new = self.kept.getvalue()[seen:]
            if words := _whole_words(new):
                tokens += count(words)
                self._noted = seen + len(words), tokens
            return self._counted + tokens + count(new[len(words) :])

    def count_whole_words(self, count: Count) -> None:
        """Count and drop the kept text except for its last word, so that there is :meth:`room` for more."""
        text = self.kept.getvalue()
        words = _whole_words(text)
        tokens = count(words)
        with self._cutting:
            self._counted += tokens
            self.kept = StringIO()
            self.kept.write(text[len(words) :])
            self._noted = (0, 0)


def _whole_words(text: str) -> str:
    """The text without its last word and the spaces before it; all of it if that word is longer than LONGEST_WORD."""
    words = text.rpartition(" ")[0].rstrip(" ")
    return words if len(text) - len(words) <= LONGEST_WORD else text
