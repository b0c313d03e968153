"""What every database takes: amounts that can be added up, and names that fit into an index. Pure."""

from __future__ import annotations

import hashlib
from functools import lru_cache, reduce
from operator import or_
from typing import Final

#: No bill is larger (9 million USD): sums of hostile figures stay within the 64 bits that databases add up in.
_LARGEST: Final = 2**53
#: Names are parts of index entries, which PostgreSQL bounds to 2,700 bytes.
_LONGEST_NAME: Final = 255


def bounded_amount(amount: int) -> int:
    """The amount, or the nearest that is no nonsense."""
    if 0 <= amount <= _LARGEST:
        return amount
    return 0 if amount < 0 else _LARGEST


def bounded_amounts(*amounts: int) -> tuple[int, ...]:
    """Each as :func:`bounded_amount` has it."""
    if 0 <= reduce(or_, amounts) <= _LARGEST:  # negative if one of them is, and at least as large as each
        return amounts
    return tuple(map(bounded_amount, amounts))


def bounded_name(text: str) -> str:
    """A name that every database takes: unchanged, unless it is very long or holds what is no text."""
    if text.isascii() and len(text) <= _LONGEST_NAME and "\0" not in text:
        return text
    data = text.replace("\0", "\ufffd").encode(errors="replace")
    if len(data) <= _LONGEST_NAME:
        return data.decode()
    # The hash keeps apart what begins alike.
    return data[:200].decode(errors="ignore") + "~" + hashlib.sha256(data).hexdigest()[:32]


def bounded_names(*texts: str) -> tuple[str, ...]:
    """Each as :func:`bounded_name` has it."""
    together = "".join(texts)
    return texts if bounded_name(together) is together else tuple(map(bounded_name, texts))


@lru_cache(256)
def cached_bounded_name(name: str | None) -> str | None:
    """As :func:`bounded_name` has it; None stays None. Asked for the same few again and again."""
    return None if name is None else bounded_name(name)
