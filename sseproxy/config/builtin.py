"""The configuration that applies when there is no file: everything runs with no key and no network."""

from __future__ import annotations

from typing import Any, Final

#: Known to everybody who has read the documentation: for 127.0.0.1 only.
DEMO_KEY: Final = "sk-demo"
DEMO_WSGI: Final = "sseproxy.demo:app"
BUILT_IN_NAME: Final = "built-in demo configuration"

BUILT_IN: Final[dict[str, Any]] = {
    "upstreams": {"demo": {"wsgi": DEMO_WSGI}},
    "models": {
        # An invented price, so that the demo has a bill to show.
        "demo*": {"upstream": "demo", "price": {"input": "0.15", "output": "0.60"}},
        "*": {"upstream": "demo"},
    },
    "users": {"demo": {"keys": [DEMO_KEY], "admin": True}},
}
