"""What is loaded again is what was found: never another file, and never the demo in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sseproxy.config import Config, ConfigError
from sseproxy.config.given import give
from sseproxy.config.origin import Origin

Load = Callable[[str], Config]
Give = Callable[[Config], None]


@pytest.fixture
def give_for_now() -> Iterator[Give]:
    """Until the test has ended."""
    yield give
    give(None)


def test_a_file_that_was_found_and_is_gone_is_a_problem_and_not_the_demo(load: Load) -> None:
    load("server: {threads: 3}")
    origin = Origin(None)
    origin.load()
    Path("config.yaml").unlink()

    with pytest.raises(ConfigError, match=r"config\.yaml: cannot be read: No such file or directory"):
        origin.load()


@pytest.mark.parametrize("given", [None, "config.yaml", Path("config.yaml")])
def test_the_same_file_is_read_again_from_another_directory(
    load: Load, monkeypatch: pytest.MonkeyPatch, given: str | Path | None
) -> None:
    load("server: {threads: 3}")
    origin = Origin(given)
    origin.load()
    Path("config.yaml").write_text("server: {threads: 4}")
    Path("elsewhere").mkdir()
    Path("elsewhere/config.yaml").write_text("server: {threads: 5}")
    monkeypatch.chdir("elsewhere")

    assert origin.load().server.threads == 4


def test_a_file_that_appears_takes_the_demos_place_for_good(load: Load) -> None:
    origin = Origin(None)
    assert origin.load().is_built_in
    load("server: {threads: 3}")
    assert origin.load().server.threads == 3
    Path("config.yaml").unlink()

    with pytest.raises(ConfigError):
        origin.load()


def test_a_config_stays_as_it_is(load: Load) -> None:
    config = load("server: {threads: 3}")
    origin = Origin(config)
    assert origin.load() is config
    Path("config.yaml").write_text("server: {threads: 4}")

    assert origin.load() is config


def test_what_was_given_is_had_for_its_own_file_and_where_there_is_none(load: Load, give_for_now: Give) -> None:
    given = load("server: {threads: 3}")
    give_for_now(given)
    Path("config.yaml").write_text("server: {threads: 4}")
    assert Origin(None).load() is Origin("config.yaml").load() is given
    Path("config.yaml").unlink()

    assert Origin(None).load() is given


def test_what_was_given_takes_no_other_files_place(load: Load, give_for_now: Give) -> None:
    give_for_now(Config.load(None))
    load("server: {threads: 4}")

    assert not Origin(None).load().is_built_in
