"""middleware/growing_text: looked at ever so often, a text has as many tokens as in one piece."""

from __future__ import annotations

import pytest

from sseproxy.middleware.growing_text import COUNT_AT, LONGEST_WORD, GrowingText
from sseproxy.tokenizer import Tokenizer

TOKENIZER = Tokenizer()
CODE = "def f(x):\n        if x is None:\n            return   3.14159\n\n\n    # nothing else  \n"


def count(text: str) -> int:
    return TOKENIZER.count(text, "gpt-4o")


def grow(text: GrowingText, piece: str) -> None:
    text.kept.write(piece)
    if text.room() <= 0:
        text.count_whole_words(count)


@pytest.mark.parametrize("whole", ["internationalization " * 30, "word " * 64, CODE, "2 + 2 = 4. \U0001f600 42 " * 20])
def test_each_look_amid_a_word_counts_what_all_of_it_counts(whole: str) -> None:
    text = GrowingText()

    for end, letter in enumerate(whole, start=1):
        grow(text, letter)
        assert text.tokens_so_far(count) == text.tokens(count) == count(whole[:end])


def test_a_long_text_that_is_not_all_kept_has_the_tokens_that_it_would_have() -> None:
    text = GrowingText()
    pieces = ["Hello  world, it is 42 " * 50] * (5 * COUNT_AT // 1000)

    for piece in pieces:
        grow(text, piece)
        text.tokens_so_far(count)

    assert text.tokens_so_far(count) == text.tokens(count) == count("".join(pieces))


def test_a_text_without_a_space_is_not_counted_from_its_beginning_at_each_look() -> None:
    text = GrowingText()
    counted: list[int] = []

    def counting(text: str) -> int:
        counted.append(len(text))
        return count(text)

    for _ in range(10_000):
        grow(text, "x")
        text.tokens_so_far(counting)

    assert max(counted) <= LONGEST_WORD + 1
    assert abs(text.tokens_so_far(count) - count("x" * 10_000)) <= 10_000 // LONGEST_WORD
