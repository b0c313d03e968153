"""core/redact: no key in what an upstream says of its errors."""

from __future__ import annotations

import pytest

from sseproxy.core.failure import Failure
from sseproxy.core.redact import Redactor, redact_failure, secrets_of


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


@pytest.mark.parametrize("spelt", ["ab/c+d=e", r"ab\/c+d=e", r"ab/c\u002Bd\u003de", r"\u0061b/c+d=e"])
def test_a_secret_is_found_however_json_spells_it(spelt: str) -> None:
    assert Redactor(["ab/c+d=e"])(f'{{"error":"{spelt} is refused"}}') == '{"error":"[key] is refused"}'


def test_nothing_that_a_failure_says_holds_a_secret() -> None:
    said = "x secret-1234 y"
    failure = Failure(said, type=said, code=said, param=said)
    failure.further = {"metadata": {"raw": said}}
    failure.request_id = said

    redact_failure(failure, Redactor(["secret-1234"]))

    clean = "x [key] y"
    assert failure.request_id == clean
    assert failure.as_json() == {
        "error": {"message": clean, "type": clean, "param": clean, "code": clean, "metadata": {"raw": clean}}
    }


def test_what_follows_a_scheme_is_the_secret() -> None:
    assert [*secrets_of(["Token abcd1234", "plain"])] == ["Token abcd1234", "abcd1234", "plain", "plain"]
