"""The servers, started once each, with a proxy and a ledger in front of each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import missing, serve
from tests.harness.parts import optional
from tests.integration.books import KEY as CLIENT_KEY
from tests.integration.books import PRICE, Books

from .desk import Desk
from .running import KEY, RealServer, has, llama_cpp_server, transformers_serve


@pytest.fixture(scope="session")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """transformers serve, and the proxy in front of it."""
    if not has("transformers", "torch", "fastapi", "uvicorn"):
        missing("transformers serve (make servers)")
    with transformers_serve(tmp_path_factory.mktemp("transformers")) as server:
        yield from _in_front_of(server, tmp_path_factory)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """llama-cpp-python's server, and the proxy in front of it."""
    if not has("llama_cpp", "gguf", "fastapi", "uvicorn"):
        optional("llama-cpp-python (minutes to build: see tests/servers/llama.txt)")
    with llama_cpp_server(tmp_path_factory.mktemp("llama")) as server:
        yield from _in_front_of(server, tmp_path_factory)


def _in_front_of(server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    directory = tmp_path_factory.mktemp("proxy")
    settings = {
        "upstreams": {
            "real": {"url": server.url, "api_key": KEY},
            "demo": {"wsgi": "sseproxy.demo:app"},
        },
        "models": {
            **{name: {"upstream": "real", "model": own, "price": PRICE} for name, own in server.models.items()},
            "demo*": {"upstream": "demo"},
            "*": {"upstream": "real", "price": PRICE},
        },
        "users": {"alice": {"keys": [CLIENT_KEY]}},
        "accounting": {"ledger": f"sqlite:///{directory}/usage.db"},
    }
    with serve(settings, directory=directory) as proxy:
        yield Desk(proxy.url, server, Books(directory))
