"""Configurations and ledgers for the tests of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sseproxy.ledger.ledger import open_ledger
from tests.harness import wait_until

KEY = "sk-alice"
PRICE = {"input": "1", "output": "2"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Tell me a tale."}]}
STREAM = {**CHAT, "stream": True}
AT_ONCE = 20.0
"""Seconds: less than ``streams.keep_alone``, after which an upstream that nobody stopped is hung up on too."""


def config(url: str, directory: Path, **sections: Any) -> dict[str, Any]:
    """A configuration with one upstream, one user and a ledger in ``directory``."""
    if not (ledger := directory / "usage.db").exists():
        ledger.write_bytes(_empty_ledger())
    upstream = {"url": url, "api_key": "sk-upstream", **sections.pop("upstream", {})}
    return {
        "upstreams": {"main": upstream},
        "models": {"m*": {"price": PRICE}, "fast": {"model": "m-fast", "price": PRICE}},
        "users": {"alice": {"keys": [KEY]}, "root": {"keys": ["sk-root"], "admin": True}},
        "accounting": {"ledger": f"sqlite:///{ledger}"},
        **sections,
    }


@cache
def _empty_ledger() -> bytes:
    """A ledger's file as the first start makes it, which takes three times as long as to open it."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "usage.db"
        with closing(open_ledger(f"sqlite:///{file}")):
            pass
        return file.read_bytes()


class Books:
    """The ledger that a proxy under test writes."""

    def __init__(self, directory: Path) -> None:
        self._url = f"sqlite:///{directory}/usage.db"

    def charges(self) -> list[dict[str, Any]]:
        """All charges so far."""
        with self._open() as ledger:
            return list(ledger.charges())

    def wait_for(self, condition: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The charges as soon as they are as expected."""
        seen: list[dict[str, Any]] = []
        with self._open() as ledger:

            def is_expected() -> bool:
                seen[:] = ledger.charges()
                return condition(seen)

            wait_until(is_expected, state=lambda: seen)
        return seen

    def one_ended(self) -> Mapping[str, Any]:
        """The only charge there is, once it is no longer pending."""
        return self.wait_for(lambda rows: len(rows) == 1 and rows[0]["state"] != "pending")[0]

    @contextmanager
    def _open(self) -> Iterator[Any]:
        ledger = open_ledger(self._url)
        try:
            yield ledger
        finally:
            ledger.close()
