"""Names as people see them."""

from __future__ import annotations

from sseproxy.core.printable import printable


def test_what_does_not_print_is_replaced_and_nothing_else() -> None:
    assert printable("a\x1b[2J\u202eb\0") == "a\ufffd[2J\ufffdb\ufffd"
    assert (printable("名前 é"), printable(None), printable(3)) == ("名前 é", "", "3")
