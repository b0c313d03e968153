"""What the tests of the configuration share: a file to write, and the problems it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from sseproxy.config import Config, ConfigError

Problems = Callable[[str], list[str]]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds a configuration it did not write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSEPROXY_CONFIG", raising=False)


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Config]:
    """Loads YAML text as the file ``config.yaml``."""

    def load(text: str) -> Config:
        Path("config.yaml").write_text(dedent(text), "utf-8")
        return Config.load("config.yaml")

    return load


@pytest.fixture
def problems(load: Callable[[str], Config]) -> Problems:
    """The problems of YAML text, as lines for people."""

    def problems(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text)
        assert str(caught.value) == "\n".join(map(str, caught.value.problems))
        return [str(problem) for problem in caught.value.problems]

    return problems
