"""An OpenAI-compatible WSGI app with no model, no key, no network: upstream of the built-in configuration and of tests.

Same request, same text. One piece of text is one event is one output token; one word of input is one input token.
A body field ``demo`` sets the length, the pace and one fault: see :mod:`sseproxy.demo.faults`.
Nothing of sseproxy but ``core.failure`` may be imported here: the app must run where the proxy is broken.
"""

from sseproxy.demo.endpoints import app

__all__ = ["app"]
