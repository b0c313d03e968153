"""Requests are read as waitress reads them, whatever they are made of, but for some that are refused (RFC 9112)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser
from waitress.utilities import BadRequest

from sseproxy.server import parser
from sseproxy.server.parser import LONGEST, LONGEST_BODY, MOST_LINES, Parser

SETTINGS = Adjustments(max_request_body_size=2 * LONGEST_BODY)
FIELDS = (
    b"Host: example.org\r\nAuthorization: Bearer sk-1\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
)
CHAT = b"POST /v1/chat/completions?a=b%20c HTTP/1.1\r\n" + FIELDS + b"Content-Length: 5\r\n\r\nhello"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
REQUESTS = {
    "with a body": CHAT,
    "without a body": b"GET / HTTP/1.1\r\n" + FIELDS + b"\r\n",
    "without a field": b"GET / HTTP/1.1\r\n\r\n",
    "behind a blank line": b"\r\n" + CHAT,
    "followed by another": CHAT + CHAT,
    "with blanks around": CHAT.replace(b"Host: example.org", b"Host:\t  example.org \t").replace(b"1.1\r", b"1.1  \r"),
    "with an empty value": CHAT.replace(b"example.org", b""),
    "with Latin-1": CHAT.replace(b"example.org", b"ex\xe4mple\x85"),
    "that closes": CHAT.replace(b"keep-alive", b"Close"),
    "of HTTP/1.0": CHAT.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "without a version": CHAT.replace(b" HTTP/1.1", b""),
    "for a whole URL": CHAT.replace(b"/v1", b"http://example.org/v1", 1),
    "for two slashes": CHAT.replace(b"/v1", b"//v1#x", 1),
    "for a bad URL": CHAT.replace(b"/v1", b"http://[/v1", 1),
    "in small letters": CHAT.replace(b"POST", b"post"),
    "with a field twice": CHAT.replace(b"Accept-Encoding", b"host"),
    "with a length twice": CHAT.replace(b"Connection: keep-alive", b"Content-Length: 5"),
    "with a folded field": CHAT.replace(b"gzip, ", b"gzip,\r\n "),
    "with a folded first line": CHAT.replace(b"\r\nHost", b"\r\n Host"),
    "with an underline": CHAT.replace(b"Accept-Encoding", b"Accept_Encoding"),
    "with a blank in a name": CHAT.replace(b"Host:", b"Host :"),
    "without a colon": CHAT.replace(b"Host:", b"Host"),
    "with a bare newline": CHAT.replace(b"example", b"exa\nmple"),
    "with a bare return": CHAT.replace(b"example", b"exa\rmple"),
    "with a newline before": CHAT.replace(b"POST", b"POST\n"),
    "with a zero byte": CHAT.replace(b"example", b"exa\0mple"),
    "in chunks": CHAT.replace(b"Content-Length: 5\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n")
    + b"\r\n0\r\n\r\n",
    "of another coding": CHAT.replace(b"gzip, deflate", b"x\r\nTransfer-Encoding: gzip"),
    "that expects": CHAT.replace(b"gzip, deflate", b"x\r\nExpect: 100-continue"),
    "of no length": CHAT.replace(b"Length: 5", b"Length: 0"),
    "of zeros": CHAT.replace(b"Length: 5", b"Length: 00005"),
    "of an odd length": CHAT.replace(b"Length: 5", b"Length: +5"),
    "of a length of many digits": CHAT.replace(b"Length: 5", b"Length: " + b"5" * 5000),
    "of a superscript length": CHAT.replace(b"Length: 5", b"Length: \xb2"),
    "of an empty length": CHAT.replace(b"Length: 5", b"Length:"),
    "of a huge length": CHAT.replace(b"Length: 5", b"Length: 5555555555555555"),
    "too long": CHAT.replace(b"Length: 5", b"Length: %d" % (2 * LONGEST_BODY)),
    "long enough for a file": CHAT.replace(b"Length: 5", b"Length: %d" % (LONGEST_BODY + 1)) + b"x" * LONGEST_BODY,
    "as long as is kept": CHAT.replace(b"Length: 5", b"Length: %d" % LONGEST_BODY) + b"x" * LONGEST_BODY,
    "with a long line": CHAT.replace(b"sk-1", b"sk-" + b"1" * LONGEST).replace(b"b%20c", b"b" * LONGEST),
}


def read(parser_class: type[HTTPRequestParser], pieces: list[bytes]) -> dict[str, Any]:
    """All that a parser tells of what came in these pieces, and how much of them it took."""
    parser = parser_class(SETTINGS)
    taken = 0
    for piece in pieces:
        while piece and not parser.completed:
            try:
                number = parser.received(piece)
            except ValueError as error:  # waitress then closes the connection, and logs where it was
                return {"raised": str(error)}
            taken += number
            piece = piece[number:]
    said = {name: getattr(parser, name, None) for name in SAID}
    error = None if parser.error is None else (type(parser.error), parser.error.body)
    body = parser.get_body_stream().read()
    parser.close()
    return {**said, "error": error, "body": body, "taken": taken}


SAID = (
    *("completed", "empty", "headers_finished", "expect_continue", "chunked", "content_length"),
    *("first_line", "command", "request_uri", "version", "path", "query", "fragment", "url_scheme", "headers"),
    *("proxy_scheme", "proxy_netloc", "header_bytes_received", "body_bytes_received"),
)


HOSTS = "Exactly one Host field is required"
CODING = "Transfer-Encoding must be chunked, once, in HTTP/1.1"
BOTH = "Content-Length and Transfer-Encoding exclude each other"
START = "Start line is invalid"
NUMBERS = "The URL or the Content-Length cannot be read"
CHUNKING = {
    "size": "Invalid chunk size",
    "extension": "Invalid chunk extension",
    "end": "Chunk not properly terminated",
    "trailer": "Invalid trailer",
}


def assert_read_alike(pieces: list[bytes]) -> None:
    ours, theirs = read(Parser, pieces), read(HTTPRequestParser, pieces)
    if "raised" in theirs:
        assert ours["error"] in ((BadRequest, NUMBERS), (BadRequest, START)), pieces
    elif ours["error"] is None or ours["error"][1] not in (START, HOSTS, CODING, BOTH, *CHUNKING.values()):
        assert ours == theirs, pieces


@pytest.mark.parametrize("what", REQUESTS)
def test_a_request_is_read_as_waitress_reads_it(what: str) -> None:
    request = REQUESTS[what]
    for pieces in ([request], [request[:30], request[30:]], [request[:-3], request[-3:]]):
        for _ in range(2):  # the second time its lines are known
            assert_read_alike(pieces)


def test_so_are_requests_with_a_few_bytes_changed() -> None:
    chance = random.Random(1)
    for _ in range(5000):
        request = bytearray(chance.choice(list(REQUESTS.values()))[:400])
        for _ in range(chance.randint(1, 3)):
            request[chance.randrange(len(request))] = chance.choice(b"\r\n :\t_0159aA\0\x85\xb2,;")
        assert_read_alike([bytes(request)])


def test_a_request_that_could_not_be_read_has_no_path_to_be_logged_when_its_client_leaves() -> None:
    request = Parser(SETTINGS)
    request.received(b"no HTTP\r\n\r\n")

    assert request.completed
    assert request.path is None


LENGTH = b"Content-Length: 5"
CODED = b"Transfer-Encoding: chunked"
CHUNKED = CHAT.replace(b"Content-Length: 5\r\n\r\nhello", CODED + b"\r\n\r\n" + CHUNKS)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (CHUNKED.replace(CODED, CODED + b"\r\n" + LENGTH), BOTH),
        (CHUNKED.replace(CODED, b"content-length: 0\r\ntransfer-encoding: Chunked"), BOTH),
        (CHUNKED.replace(b"chunked", b"chunked, chunked"), CODING),
        (CHUNKED.replace(b"chunked", b"chunked,"), CODING),
        (CHUNKED.replace(CODED, CODED + b"\r\n" + CODED), CODING),
        (CHUNKED.replace(b" chunked", b""), CODING),
        (CHUNKED.replace(b" chunked", b" , "), CODING),
        (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0"), CODING),
        (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.9"), CODING),
        (CHAT.replace(LENGTH, LENGTH + b"\r\nTransfer-Encoding:"), CODING),
        (CHAT.replace(b"Host: example.org\r\n", b""), HOSTS),
        (CHAT.replace(b"Host: example.org", b"Host: example.org\r\nHost: example.org"), HOSTS),
        (CHAT.replace(b"Host: example.org", b"Host: example.org\r\nhOST: evil.example"), HOSTS),
        (CHUNKED.replace(b"Host: example.org\r\n", b""), HOSTS),
    ],
)
def test_what_two_servers_may_read_as_two_requests_is_refused(request_: bytes, reason: str) -> None:
    for pieces in ([request_], [request_[:30], request_[30:]]):
        assert read(Parser, pieces)["error"] == (BadRequest, reason)


@pytest.mark.parametrize(
    "request_",
    [
        CHUNKED,
        CHUNKED.replace(b" chunked", b"\t Chunked \t"),
        CHUNKED.replace(b" chunked", b"\r\n chunked"),
        CHUNKED.replace(b"example.org", b""),
        CHUNKED.replace(b"Accept-Encoding: gzip", b"X-Host: a\r\nX-Transfer-Encoding: gzip"),
        CHAT.replace(b"HTTP/1.1\r\nHost: example.org", b"HTTP/1.0"),
    ],
)
def test_what_is_read_in_one_way_only_is_taken(request_: bytes) -> None:
    assert read(Parser, [request_])["error"] is None
    assert read(Parser, [request_])["body"] == b"hello"


def test_what_clients_send_is_not_left_to_waitress(monkeypatch: pytest.MonkeyPatch) -> None:
    def left(*args: object) -> None:
        raise AssertionError

    monkeypatch.setattr(HTTPRequestParser, "parse_header", left)

    assert read(Parser, [CHAT])["body"] == b"hello"


@pytest.mark.parametrize("field", [b"Authorization: Bearer ", b"COOKIE: s=", b"x-api-key: ", b"Api-Key: "])
def test_what_opens_a_door_is_never_remembered(field: bytes) -> None:
    secret = b"sk-never-kept"
    request = b"GET /%b?key=%b HTTP/1.1\r\nHost: remembered.example\r\n%b%b\r\n\r\n"

    Parser(SETTINGS).received(request % (b"a", secret, field, secret))

    assert b"Host: remembered.example" in parser._fields
    assert not any(secret in line or secret.decode() in value for line, (_, value) in parser._fields.items())
    assert not any(secret in name for name in parser._names)


@pytest.mark.parametrize("value", [b"Bearer  a ", b"\tb", b"", b"\xe4", b"a\0", b"a\x7f", b"a\rb", b"a\nb", b":"])
def test_a_field_whose_name_alone_is_known_is_read_as_any_other(value: bytes) -> None:
    requests = [b"GET / HTTP/1.1\r\nHost: x\r\nCookie: %b\r\n\r\n" % each for each in (b"c=1", value)]

    assert [read(Parser, [each]) for each in requests] == [read(HTTPRequestParser, [each]) for each in requests]
    assert b"Cookie" in parser._names


def test_of_fields_whose_names_are_long_nothing_is_remembered() -> None:
    before = dict(parser._names)

    assert read(Parser, [b"GET / HTTP/1.1\r\nHost: x\r\n%b: b\r\n\r\n" % (b"a" * (LONGEST + 1))])["error"] is None
    assert parser._names == before


@pytest.mark.parametrize("target", ["/", "//v1", "/v1?a=b", "/<v1>", "/v1#x", "*", "http://x", "HTTPS://x/v1?a"])
@pytest.mark.parametrize("version", [" HTTP/1.0", " HTTP/1.1", " HTTP/1.2", " HTTP/1.1 ", ""])
def test_a_path_a_url_and_an_asterisk_are_read_as_waitress_reads_them(target: str, version: str) -> None:
    request = f"GET {target}{version}\r\nHost: x\r\n\r\n".encode()

    assert read(Parser, [request])["error"] is None
    assert_read_alike([request])


@pytest.mark.parametrize(
    "start",
    [
        *("GET v1 HTTP/1.1", "GET ?a HTTP/1.1", "GET x:443 HTTP/1.1", "CONNECT x:443 HTTP/1.1", "GET ** HTTP/1.1"),
        *("GET ../v1 HTTP/1.1", "GET http:/v1 HTTP/1.1", "GET ftp://x/v1 HTTP/1.1", "GET HTTP/1.1"),
        *("GET /v\t1 HTTP/1.1", "GET /v1\x01 HTTP/1.1", "GET /v1\x7f HTTP/1.1", "GET /v1\xe4 HTTP/1.1"),
        *("GET /v1 HTTP/2.0", "GET /v1 HTTP/0.9", "GET /v1 HTTP/1.10", "GET /v1 http/1.1"),
    ],
)
def test_what_another_server_may_take_for_another_path_or_protocol_is_refused(start: str) -> None:
    request = f"{start}\r\nHost: x\r\n\r\n".encode("latin-1")

    for pieces in ([request], [request[:5], request[5:]]):
        assert read(Parser, pieces)["error"] == (BadRequest, START)


@pytest.mark.parametrize("end", [b" HTTP/1.1", b"", b" X", b" HTTP/1.1 "])
@pytest.mark.parametrize("field", [b"Host: x", b"Host : x"])
def test_a_long_start_line_is_read_or_refused_at_once(end: bytes, field: bytes) -> None:
    said = read(Parser, [b"GET http://" + b"1" * 200_000 + end + b"\r\n" + field + b"\r\n\r\n"])

    assert (said["error"] is None) == (end != b" X" and field == b"Host: x")


@pytest.mark.parametrize("blanks", [b" " * 200_000, (b"\r\n" + b" " * 200) * 1_000])
@pytest.mark.parametrize("value", [b"\0", b"x"])
def test_a_field_that_begins_with_blanks_upon_blanks_is_refused_at_once(blanks: bytes, value: bytes) -> None:
    said = read(Parser, [b"GET / HTTP/1.1\r\nHost: x\r\nX-A:" + blanks + value + b"\r\n\r\n"])

    assert said["error"] == (BadRequest, "Too many blanks before the value of a field")


@pytest.mark.parametrize("line", [b"a: b", b" folded"])
@pytest.mark.parametrize("number", [MOST_LINES // 2, 2 * MOST_LINES])
def test_a_field_that_comes_a_thousand_times_or_in_as_many_lines_is_refused(line: bytes, number: int) -> None:
    said = read(Parser, [b"GET / HTTP/1.1\r\nHost: x\r\na: b\r\n" + (line + b"\r\n") * number + b"\r\n"])

    assert said["error"] == (None if number < MOST_LINES else (BadRequest, "Too many lines"))
