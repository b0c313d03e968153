"""wsgi/form: pairs of text out of queries and forms, and nothing that is not exactly that."""

from __future__ import annotations

import tracemalloc

import pytest

from sseproxy.core.chat import BadRequest
from sseproxy.wsgi.form import LONGEST_NAME, MOST_FIELDS, MULTIPART, URLENCODED, read_form, read_query

BOUNDARY = "xYz"
TYPE = f"{MULTIPART}; boundary={BOUNDARY}"


def part(disposition: str, body: bytes, more: str = "") -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n"
    return head.encode() + body + b"\r\n"


def multipart(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def refusal(body: bytes, content_type: str) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read_form(body, content_type)
    assert caught.value.status == 400
    return caught.value


def test_a_query_s_pairs_come_in_order_blank_ones_too() -> None:
    assert read_query("b=1&a=&b=2+3%20%C3%B6&c") == [("b", "1"), ("a", ""), ("b", "2 3 ö"), ("c", "")]


def test_unencoded_utf_8_of_a_query_is_read_as_servers_hand_it_on() -> None:
    assert read_query("q=gr\xc3\xb6\xc3\x9fe") == [("q", "größe")]


@pytest.mark.parametrize("query", ["q=%FF", "q=\xff", "%C3=1"])
def test_a_query_that_is_no_utf_8_is_refused(query: str) -> None:
    with pytest.raises(BadRequest, match="The query is not valid UTF-8"):
        read_query(query)


def test_too_many_parameters_are_refused() -> None:
    assert len(read_query("&".join(["a=1"] * MOST_FIELDS))) == MOST_FIELDS
    with pytest.raises(BadRequest, match=f"more than {MOST_FIELDS}"):
        read_query("&".join(["a=1"] * (MOST_FIELDS + 1)))


def test_an_urlencoded_form_is_read_as_a_query_is() -> None:
    assert read_form(b"q=a%0D%0Ab&r=1", f"{URLENCODED}; charset=utf-8") == [("q", "a\r\nb"), ("r", "1")]
    assert "UTF-8" in refusal(b"q=%E4", URLENCODED).message


def test_a_multipart_form_s_fields_keep_every_byte() -> None:
    text = "a\r\n--xY\r\nö\r\n"
    body = multipart(part('name="q"', text.encode()), part('name="r"', b"", "Content-Type: text/plain\r\n"))

    assert read_form(body, TYPE) == [("q", text), ("r", "")]


def test_an_empty_multipart_form_has_no_fields() -> None:
    assert read_form(multipart(), TYPE) == []


def test_an_uploaded_file_is_refused_by_the_name_of_its_field() -> None:
    failure = refusal(multipart(part('name="q"; filename="a.txt"', b"text")), TYPE)

    assert failure.param == "q"
    assert "'q' is a file" in failure.message


def test_a_multipart_field_that_is_no_utf_8_is_refused_by_its_name() -> None:
    failure = refusal(multipart(part('name="q"', b"\xff", "Content-Type: text/plain; charset=iso-8859-1\r\n")), TYPE)

    assert failure.param == "q"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        part('name="q"', b"cut"),
        f"--{BOUNDARY}\r\n\r\nno disposition\r\n--{BOUNDARY}--".encode(),
        multipart(part("", b"nameless")),
        multipart(part(f'name="{"x" * (LONGEST_NAME + 1)}"', b"long")),
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=\xff".encode("latin-1"),
    ],
)
def test_a_multipart_form_that_is_none_is_refused(body: bytes) -> None:
    assert "malformed" in refusal(body, TYPE).message


@pytest.mark.parametrize("content_type", [MULTIPART, f"{MULTIPART}; boundary=", f"{MULTIPART}; boundary=\xff"])
def test_a_multipart_form_without_a_boundary_is_refused(content_type: str) -> None:
    assert "boundary" in refusal(b"--x--", content_type).message


def test_too_many_parts_are_refused() -> None:
    assert f"more than {MOST_FIELDS}" in refusal(multipart(*[part('name="q"', b"")] * (MOST_FIELDS + 1)), TYPE).message


def test_escapes_take_a_few_times_their_own_size() -> None:
    body = b"message=" + b"%41" * 300_000
    tracemalloc.start()
    try:
        pairs = read_form(body, URLENCODED)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert pairs == [("message", "A" * 300_000)]
    assert peak < 10 * len(body)
