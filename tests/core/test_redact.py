"""core/redact: no key in what an upstream says of its errors."""

from __future__ import annotations

import pytest

from sseproxy.core.redact import Redactor


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Incorrect API key provided: sk-proj-****abcd.", "Incorrect API key provided: [key]."),
        ("key 0123abcd4567 refused", "key [key] refused"),
        ("key 0123abcd4567-longer refused", "key [key] refused"),
        ("a risk-free answer", "a risk-free answer"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_secrets_and_what_looks_like_a_key_are_cut_out(text: str, shown: str) -> None:
    assert Redactor(["0123abcd4567", "0123abcd4567-longer", "", "a"])(text) == shown


def test_a_text_that_holds_a_secret_is_known() -> None:
    redact = Redactor(["0123abcd4567"])

    assert redact.holds("x 0123abcd4567 y")
    assert not redact.holds("0123abcd")
