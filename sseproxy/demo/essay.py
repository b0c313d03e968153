"""The words of the demo: a short essay made from the prompt, cut into pieces. Pure; no clock and no chance.

A piece is what one event carries and counts as one token: at most seven characters that are no white space, with the
white space before them. The pieces joined are the text, always.
"""

from __future__ import annotations

import re
from hashlib import sha256
from itertools import cycle, islice

NATURAL_LENGTH = 240
"""Pieces after which an essay ends by itself: about ten seconds at the default pace."""

_PIECE = re.compile(r"\s*\S{1,7}")
_WORD = re.compile(r"[^\W\d_]{4,}")

_OPENINGS = (
    "Let us think about “{quote}” for a moment.",
    "“{quote}”: a fair thing to ask.",
    "You wrote “{quote}”, and an answer is owed.",
)
_SENTENCES = (
    "Most people who meet {topic} for the first time expect it to be complicated, and most of them are half right.",
    "What matters about {topic} is rarely the loud part; it is the part that still works on a Monday morning.",
    "Seen from far away, {topic} looks like one thing, but up close it is three or four habits that get along.",
    "A good rule — perhaps the only one — is to change one thing at a time and to look at {topic} after each.",
    "There is a story, surely apocryphal, of an engineer who measured {topic} twice and then slept very well.",
    "If {topic} seems slow, ask what it is waiting for; if it seems fast, ask what it has left out.",
    "Nobody regrets a small experiment with {topic}, and hardly anybody regrets writing down how it went.",
    "The café around the corner has opinions on {topic} as well, served warm and without a footnote.",
    "It helps to name the costs of {topic} early, because a cost with a name can be argued with.",
    "Whoever explains {topic} in plain words has usually been wrong about it first, and says so.",
)
_CLOSING = (
    "\n\nNo model wrote this: it is the built-in demo of sseproxy, which repeats your words among its own, "
    "one token after another, so that you can watch a stream and its bill."
)


def pieces_of(text: str) -> list[str]:
    """The text cut into tokens of the demo; ``"".join`` gives it back, except for white space at its very end."""
    return _PIECE.findall(text)


def count_words(text: str) -> int:
    """Input tokens of the demo."""
    return len(text.split())


def write_essay(question: str, instructions: str, choice: int = 0) -> str:
    """The essay of natural length.

    :param question: the last thing the user said; its words return in the text.
    :param instructions: what the system said; quoted, so that a prompt prefix can be seen to have arrived.
    :param choice: index of the choice; each reads differently.
    """
    room = NATURAL_LENGTH - len(pieces_of(_CLOSING))
    text = _opening(question, instructions, choice)
    for index, sentence in enumerate(_sentences(question, choice)):
        longer = text + ("\n\n" if index % 4 == 3 else " ") + sentence
        if len(pieces_of(longer)) > room:
            break
        text = longer
    return text + _CLOSING


def write_pieces(question: str, instructions: str, choice: int, length: int) -> list[str]:
    """Exactly `length` pieces of an essay that never ends."""
    sentences = "".join(" " + sentence for sentence in _sentences(question, choice))
    head = pieces_of(_opening(question, instructions, choice))
    return list(islice([*head, *islice(cycle(pieces_of(sentences)), length)], length))


def _opening(question: str, instructions: str, choice: int) -> str:
    opening = _OPENINGS[(_seed(question) + choice) % len(_OPENINGS)].format(quote=_shorten(question) or "nothing")
    if instructions:
        opening += f" My instructions begin “{_shorten(instructions)}”, so I shall keep to them."
    return opening


def _sentences(question: str, choice: int) -> list[str]:
    topics = list(dict.fromkeys(_WORD.findall(question)))[:6] or ["silence"]
    start = _seed(question) + choice
    return [
        _SENTENCES[(start + number * 3) % len(_SENTENCES)].format(topic=topics[number % len(topics)])
        for number in range(len(_SENTENCES))
    ]


def _shorten(text: str) -> str:
    words = text.split()
    return " ".join(word[:40] for word in words[:12]) + (" …" if len(words) > 12 else "")


def _seed(text: str) -> int:
    return int.from_bytes(sha256(text.encode("utf-8", "replace")).digest()[:4], "big")
