"""The pages of examples/: short, alike on the outside, and with a configuration that has what they ask for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sseproxy.config import Config

EXAMPLES = Path(__file__).parent.parent / "examples"
PAGES = sorted(path for path in EXAMPLES.glob("*.html") if path.name != "index.html")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short_and_has_what_every_page_has(page: Path) -> None:
    text = page.read_text("utf-8")

    assert text.count("\n") <= 60
    assert max(map(len, text.splitlines())) <= 130
    assert set(re.findall(r' id="([^"]+)"', text)) == {"form", "prompt", "send", "stop", "answer", "status"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_loads_nothing_from_elsewhere(page: Path) -> None:
    packages = json.loads((EXAMPLES / "package.json").read_text("utf-8"))["dependencies"]
    text = page.read_text("utf-8")

    assert "//" not in re.sub(r"\s//\s.*", "", text)
    assert all(name in packages for name in re.findall(r"node_modules/((?:@[\w-]+/)?[\w.-]+)/", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_index_and_the_readme_name_the_page(page: Path) -> None:
    assert f'href="{page.name}"' in (EXAMPLES / "index.html").read_text("utf-8")
    assert f"`{page.name}`" in (EXAMPLES / "README.md").read_text("utf-8")


def test_the_configuration_is_valid_and_has_the_routes_that_the_pages_ask() -> None:
    config = Config.load(EXAMPLES / "config.yaml")
    asked = set(re.findall(r"\$\{api\}(/(?!v1/|-/)[\w/]+)", "".join(page.read_text("utf-8") for page in PAGES)))

    assert asked == set(config.routes)
    assert {"http://localhost:8000", "http://127.0.0.1:8000"} <= set(config.cors.origins)
    assert config.server.listen == "127.0.0.1:8080"  # where the pages look unless told otherwise


def test_the_documentation_tells_the_error_in_plain_text_as_the_page_does() -> None:
    (told,) = re.findall(r"\.match\((.+)\);", (EXAMPLES / "fetch-plain.html").read_text("utf-8"))

    assert told in (EXAMPLES.parent / "docs" / "clients.md").read_text("utf-8")


def test_the_lock_names_no_registry() -> None:
    assert '"resolved"' not in (EXAMPLES / "package-lock.json").read_text("utf-8")
