"""Fetches a small JSON document. urllib by itself reads on for ever, as long as something comes now and then."""

from __future__ import annotations

import json
from http.client import HTTPException, HTTPResponse
from time import monotonic
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, build_opener

LARGEST: Final = 1 << 20
"""Bytes."""


class _NoRedirects(HTTPRedirectHandler):
    """The address is trusted, not where it may lead."""

    def redirect_request(self, *_: Any) -> None:
        return None


def fetch_json(url: str, seconds: float) -> Any:
    """What stands at an address.

    :param seconds: after which it is given up; a silence may come on top that is as long.
    :raises OSError: it cannot be had.
    :raises ValueError: it is no JSON, or larger than :data:`LARGEST`.
    """
    deadline = monotonic() + seconds
    try:
        with build_opener(_NoRedirects).open(url, timeout=seconds) as response:
            return json.loads(_read(response, deadline))
    except HTTPError as error:
        error.close()
        raise
    except HTTPException as error:
        raise ConnectionError("the answer breaks off or is no HTTP") from error
    except RecursionError:
        raise ValueError("the document is nested too deeply") from None


def _read(response: HTTPResponse, deadline: float) -> bytes:
    content = bytearray()
    while piece := response.read1(LARGEST):
        content += piece
        if len(content) > LARGEST:
            raise ValueError("the document is too large")
        if monotonic() > deadline:
            raise TimeoutError("the document comes too slowly")
    return bytes(content)
