"""Forms and queries as pairs of text, strictly: invalid UTF-8 and uploaded files are refused, not replaced or dropped.

https://url.spec.whatwg.org/#urlencoded-parsing and RFC 7578. The whole body is in memory and bounded already.
"""

from __future__ import annotations

import re
from typing import Final

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from sseproxy.core.chat import BadRequest

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
MOST_FIELDS: Final = 1000
LONGEST_NAME: Final = 200
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")

Pairs = list[tuple[str, str]]


def read_query(query: str) -> Pairs:
    """The parameters of ``QUERY_STRING``, which servers decode as Latin-1 (PEP 3333).

    :raises BadRequest: it is no UTF-8, or has too many parameters.
    """
    return _pairs(query.encode("latin-1", "replace"), "query")


def read_form(body: bytes, content_type: str) -> Pairs:
    """The fields of a form, urlencoded or multipart.

    :raises BadRequest: it is malformed, no UTF-8, has too many fields or a file.
    """
    mimetype, options = parse_options_header(content_type)
    if mimetype == URLENCODED:
        return _pairs(body, "form")
    boundary = options.get("boundary", "")
    if not boundary or not boundary.isascii():
        raise BadRequest("The Content-Type multipart/form-data needs a boundary; let your HTTP library set it.")
    try:
        return _parts(body, boundary.encode())
    except RequestEntityTooLarge:
        raise BadRequest(f"The form has more than {MOST_FIELDS} fields.") from None
    except ValueError:
        raise BadRequest("The multipart form is malformed.") from None


def _pairs(data: bytes, what: str) -> Pairs:
    if data.count(b"&") >= MOST_FIELDS:
        raise BadRequest(f"The {what} has more than {MOST_FIELDS} fields.")
    try:
        fields = [field.partition(b"=") for field in data.split(b"&") if field]
        return [(_plain(name), _plain(value)) for name, _, value in fields]
    except UnicodeDecodeError:
        raise BadRequest(f"The {what} is not valid UTF-8.") from None


def _plain(text: bytes) -> str:
    # As a str: its one-character strings are cached; as bytes, a body of only escapes would take 70 times its size.
    letters = _ESCAPE.sub(_letter, text.replace(b"+", b" ").decode("latin-1"))
    return letters.encode("latin-1").decode()


def _letter(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16))


def _parts(body: bytes, boundary: bytes) -> Pairs:
    decoder = MultipartDecoder(boundary, max_parts=MOST_FIELDS)
    decoder.receive_data(body)
    decoder.receive_data(None)
    pairs: Pairs = []
    name, value = "", b""
    while not isinstance(event := decoder.next_event(), (Epilogue, NeedData)):
        if isinstance(event, (Field, File)):
            name, value = event.name, b""
            if not name or len(name) > LONGEST_NAME:
                raise ValueError("a part without a sane name")
        if isinstance(event, File):
            raise BadRequest(f"The field '{name}' is a file; send its text as a plain field.", name)
        if isinstance(event, Data):
            value += event.data
            if not event.more_data:
                pairs.append((name, _utf8(value, name)))
    return pairs


def _utf8(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"The field '{name}' is not valid UTF-8.", name) from None
