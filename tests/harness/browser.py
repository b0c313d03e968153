"""Real JavaScript for tests: headless Chromium, driven through playwright-core, and Node.js with the same clients.

    page = browser.open(url)                        # tests/clients/browser.mjs; or node.open(): tests/clients/node.mjs
    assert page.run("return document.title") == "..."
    reading = page.start("return await read()")     # goes on while the test does something else
    reading.result(20)

Functions may be called from any thread, so that several pages wait at the same time.
"""

from __future__ import annotations

import json
import subprocess
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

from .parts import CLIENTS, require_browser, require_node_clients
from .waiting import PATIENCE


class PageError(Exception):
    """What the page's own code threw, with its stack."""


class Page:
    """One tab with storage and connections of its own. ``console``: the lines it has logged, ``type: text``."""

    def __init__(self, driver: _Driver, number: int) -> None:
        self.console: list[str] = []
        self._driver = driver
        self._number = number

    def run(self, body: str, timeout: float = PATIENCE) -> Any:
        """Run `body`, the inside of an async function; the JSON value that it returns.

        :param timeout: seconds until AssertionError. :raises PageError: with what `body` threw.
        """
        try:
            return self.start(body).result(timeout)
        except futures.TimeoutError:
            raise AssertionError(f"no end after {timeout} s of: {body}\nconsole: {self.console}") from None

    def start(self, body: str) -> futures.Future[Any]:
        """As :meth:`run`, without waiting."""
        return self._ask("run", body=body)

    def screenshot(self, path: Path, width: int = 1280, height: int = 800) -> None:
        """The page as it looks in a window of that size, in CSS pixels; the window keeps the size."""
        self._ask("screenshot", path=str(path), width=width, height=height).result(PATIENCE)

    def prefer(self, **settings: str) -> None:
        """What its reader has set in their system: ``reducedMotion="reduce"``, ``colorScheme="dark"``."""
        self._ask("prefer", settings=settings).result(PATIENCE)

    def close(self) -> None:
        """Close the tab: everything that it reads is hung up."""
        self._ask("close").result(PATIENCE)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, op: str, **fields: Any) -> futures.Future[Any]:
        return self._driver.ask(op, page=self._number, **fields)


class _Driver:
    """A process that obeys commands in JSON lines; see tests/clients/browser.mjs."""

    def __init__(self, command: list[str]) -> None:
        self._lock = threading.Lock()
        self._pages: list[Page] = []
        self._count = 0
        started: futures.Future[Any] = futures.Future()
        self._waiting = {0: started}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CLIENTS)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.version: str = started.result(PATIENCE)

    def open(self, url: str = "") -> Page:
        """A new tab, loaded. :raises PageError: if nobody answers there"""
        with self._lock:
            page = Page(self, len(self._pages))
            self._pages.append(page)
        page._ask("open", url=url).result(PATIENCE)
        return page

    def ask(self, op: str, **fields: Any) -> futures.Future[Any]:
        """Send one command to the driver; see there."""
        with self._lock:
            self._count += 1
            answer: futures.Future[Any] = futures.Future()
            self._waiting[self._count] = answer
            assert self._process.stdin
            self._process.stdin.write(json.dumps({"id": self._count, "op": op, **fields}).encode() + b"\n")
            self._process.stdin.flush()
        return answer

    def close(self) -> None:
        """End the process, and with it everything it reads."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(PATIENCE)
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            message = json.loads(line)
            if "console" in message:
                self._pages[message["page"]].console.append(message["console"])
                continue
            answer = self._waiting.pop(message["id"])
            if "error" in message:
                answer.set_exception(PageError(message["error"]))
            else:
                answer.set_result(message["value"])
        for answer in list(self._waiting.values()):
            answer.set_exception(PageError("the browser's driver has ended"))


class Browser(_Driver):
    """A running Chromium; skips (in CI: fails) the test where it or its driver is missing."""

    def __init__(self) -> None:
        node, chromium = require_browser()
        super().__init__([node, str(CLIENTS / "browser.mjs"), chromium])


class Node(_Driver):
    """A running Node.js. Its "pages" are all its global scope, with the clients of tests/clients/readers.mjs."""

    def __init__(self) -> None:
        super().__init__([require_node_clients("jsdom"), str(CLIENTS / "node.mjs")])
