"""core/redact: no key in what an upstream says of its errors."""

from __future__ import annotations

import html
import json
import re
import sys
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections import Counter
from collections.abc import Callable
from urllib.parse import quote_plus

import pytest

from sseproxy.core.failure import Failure
from sseproxy.core.redact import Redactor, redact_body, redact_failure, secrets_of


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
    redact = Redactor(["ab/c+d=e"])
    quoted = f'{{"error":"{spelt} is refused"}}'

    assert redact_body(quoted, redact) == '{"error":"[key] is refused"}'
    assert redact(f"It said {quoted}.") == 'It said {"error":"[key] is refused"}.'


@pytest.mark.parametrize("spelt", ["ab%2Fc%2Bd%3De", "ab%2fc%2bd=e"])
def test_a_secret_in_an_address_is_found(spelt: str) -> None:
    redact = Redactor(["ab/c+d=e"])

    assert redact.holds(f"https://host/?key={spelt}&a=b")
    assert redact(f"https://host/?key={spelt}&a=b") == "https://host/?key=[key]&a=b"


@pytest.mark.parametrize("secret", ["ab/c+d=e", "a&b<c>'d\"e", "p\U0001f511ss\u00e9wort", "a%41b\\nc&amp;d", "100%ab%"])
@pytest.mark.parametrize(
    "spell",
    [
        json.dumps,
        lambda text: json.dumps(json.dumps(json.dumps(text))),
        html.escape,
        lambda text: "".join(f"&#{ord(letter)};" for letter in text),
        lambda text: json.dumps("".join(f"&#x{ord(letter):X};" for letter in text)),
        lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
        lambda text: json.dumps(f"{text[:4]}\r\n    {text[4:]}"),
    ],
)
def test_a_secret_is_found_however_deep_it_is_spelt(secret: str, spell: Callable[[str], str]) -> None:
    shown = Redactor([secret])(f"a\n&lt;b {spell(secret)} c%20\\u0064")

    assert re.fullmatch(r'a\n&lt;b [\\"]*\[key\][\\"]* c%20\\u0064', shown)


def test_secrets_that_overlap_are_cut_as_one() -> None:
    assert Redactor(["abcdef", "defghi", "abcd"])("abcdefghi-abcdabcd") == "[key]-[key][key]"


def test_a_text_in_which_no_secret_has_room_costs_the_same_for_any_number_of_them() -> None:
    calls: Counter[int] = Counter()

    def work(count: int) -> None:
        redact = Redactor(f"{number:030}" for number in range(count))
        sys.setprofile(lambda _, event, __: calls.update([count] if event == "c_call" else []))
        try:
            redact_body(json.dumps(["a short\nword"] * 10), redact)
        finally:
            sys.setprofile(None)

    work(1)
    work(200)

    assert calls[1] == calls[200]


def test_base64_is_found_across_the_ends_of_its_lines() -> None:
    redact = Redactor(["secret of forty letters and a few more, or so"])
    said = encodebytes(b"Authorization: Bearer secret of forty letters and a few more, or so").decode()

    assert "\n" in said.strip()
    assert redact(said).count("[key]") == 1


@pytest.mark.parametrize("before", ["", "a", "user:", "Bearer "])
@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
@pytest.mark.parametrize("escape", [str, quote_plus, lambda text: text.replace("/", r"\/")])
def test_a_secret_within_base64_is_found(
    before: str, encode: Callable[[bytes], bytes], escape: Callable[[str], str]
) -> None:
    secret = "~~~???>>>/ab/cd+ef="
    redact = Redactor([secret])
    said = escape(encode(f"{before}{secret}:".encode()).decode())

    assert redact.holds(said)
    assert re.fullmatch(r"[\w%=/]{0,12}\[key\][\w%=]{0,8}", redact(said))


def test_a_short_secret_is_not_looked_for_within_base64() -> None:
    assert Redactor(["secret"])("c2VjcmV0") == "c2VjcmV0"


@pytest.mark.parametrize("secret", ["true", "null", "2024", "nee", "1.50"])
def test_json_without_a_secret_stays_as_it_is(secret: str) -> None:
    body = '{ "error": {"message": "a\\n\\u00ee", "retryable": true, "param": null, "year": 2024, "price": 1.50} }'

    assert redact_body(body, Redactor([secret])) == body


def test_only_what_json_says_is_cut() -> None:
    said = {"message": 'true, he said: "it\'s true"', "true": ["true", True]}

    assert json.loads(redact_body(json.dumps(said), Redactor(["true"]))) == {
        "message": '[key], he said: "it\'s [key]"',
        "[key]": ["[key]", True],
    }


def test_nothing_that_a_failure_says_holds_a_secret() -> None:
    said = "x secret-1234 y"
    failure = Failure(said, type=said, code=said, param=said)
    failure.further = {"metadata": {"raw": said, "retryable": True}}
    failure.request_id = said

    redact_failure(failure, Redactor(["secret-1234"]))

    clean = "x [key] y"
    assert failure.request_id == clean
    said_of_it = {"message": clean, "type": clean, "param": clean, "code": clean}
    assert failure.as_json() == {"error": {**said_of_it, "metadata": {"raw": clean, "retryable": True}}}


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("Authorization", "Token abcd1234", ["Token abcd1234", "abcd1234"]),
        ("X-Api-Key", "abcd", ["abcd"]),
        ("X-Acme", "hunter2hunter2", ["hunter2hunter2"]),
        ("X-Acme", "Token hunter2hunter2", ["Token hunter2hunter2", "hunter2hunter2"]),
        ("X-Flag", "true", []),
        ("X-Max-Tokens", "4096", []),
        ("X-Title", "Acme completions", []),
        ("Accept", "application/json", []),
        ("anthropic-beta", "prompt-caching-2024-07-31", []),
    ],
)
def test_a_header_s_value_is_secret_by_its_name_or_its_length(name: str, value: str, secret: list[str]) -> None:
    assert [*secrets_of(None, {name: value}, None)] == secret


def test_a_proxy_s_password_is_secret_as_it_stands_in_the_address_and_as_it_is() -> None:
    assert [*secrets_of(None, {}, "http://me:p%40ss@host")] == ["http://me:p%40ss@host", "p%40ss", "p@ss"]
