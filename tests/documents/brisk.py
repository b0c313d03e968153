"""The demo in a hurry: answers of a dozen tokens, at once. At the pace of a person a page of examples takes minutes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sseproxy.demo import app as demo

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SCRIPT = {"tokens": 12, "interval_ms": 0}


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The demo's answer to the same request, of another length and pace."""
    sent = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    if environ["REQUEST_METHOD"] == "POST":
        sent = json.dumps({**json.loads(sent), "demo": SCRIPT}).encode()
    return demo({**environ, "wsgi.input": io.BytesIO(sent), "CONTENT_LENGTH": str(len(sent))}, start_response)
