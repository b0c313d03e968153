"""One text of an answer as it grows: its tokens are counted when somebody asks, and for good where it has become long.

No cut may show in a count, so only whole words are counted for good: before a space no tokenizer joins two tokens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from io import StringIO
from typing import Final

COUNT_AT: Final = 128 * 1024
"""Characters that are kept before they are counted; bounds what one text holds in memory. Twice what one read may
bring: what is left of it is what may pass uncounted."""
LONGEST_WORD: Final = 1024
"""Characters at the end that are counted anew at each look; a cut in more of them without a space may cost a token."""

Count = Callable[[str], int]


class GrowingText:
    """May be asked for its tokens in one thread while another adds to it.

    :ivar kept: what of it is not counted for good; to be added to, and at :data:`COUNT_AT` to be counted.
    """

    # How each begins.
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
        """The same, from another thread; counts only what is new since the last call, and the last word anew."""
        with self._cutting:
            seen, tokens = self._noted
            new = self.kept.getvalue()[seen:]
            if words := _whole_words(new):
                tokens += count(words)
                self._noted = seen + len(words), tokens
            return self._counted + tokens + count(new[len(words) :])

    def count_whole_words(self, count: Count) -> None:
        """Count what is kept for good, but for its last word: there is always :meth:`room` for more."""
        text = self.kept.getvalue()
        words = _whole_words(text)
        tokens = count(words)
        with self._cutting:
            self._counted += tokens
            self.kept = StringIO()
            self.kept.write(text[len(words) :])
            self._noted = (0, 0)


def _whole_words(text: str) -> str:
    """The text without its last word and the spaces before that; all of it where the word is too long to wait for."""
    words = text.rpartition(" ")[0].rstrip(" ")
    return words if len(text) - len(words) <= LONGEST_WORD else text
