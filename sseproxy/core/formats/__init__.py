"""How events look to a client: OpenAI's own chunks, bare text, an envelope, plain text. Pure; no socket, no WSGI."""

from __future__ import annotations

from sseproxy.core.formats.envelope import Envelope
from sseproxy.core.formats.format import Format
from sseproxy.core.formats.openai import OpenAI
from sseproxy.core.formats.plain import Plain
from sseproxy.core.formats.template import Template
from sseproxy.core.formats.text import Text

__all__ = ["Envelope", "Format", "OpenAI", "Plain", "Template", "Text"]
