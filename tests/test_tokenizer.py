"""Token counts are OpenAI's, offline, and cost linear time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest
import splintr

from sseproxy.tokenizer import Tokenizer, vocabulary_of


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer()


@pytest.fixture
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No vocabulary is there yet in this process."""
    monkeypatch.setattr("sseproxy.tokenizer._loaded", {})


@pytest.mark.parametrize(
    ("text", "model", "tokens"),
    [
        # Counted with tiktoken.
        ("", "gpt-4o", 0),
        ("hello world", "gpt-4o", 2),
        ("tiktoken is great!", "gpt-4", 6),
        ("antidisestablishmentarianism", "gpt-4", 6),
        ("2 + 2 = 4", "gpt-4", 7),
        ("お誕生日おめでとう", "gpt-4", 9),
        ("お誕生日おめでとう", "gpt-4o", 8),
    ],
)
def test_counts_are_those_of_the_vendor(tokenizer: Tokenizer, text: str, model: str, tokens: int) -> None:
    assert tokenizer.count(text, model) == tokens


@pytest.mark.parametrize(
    ("model", "vocabulary"),
    [
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("openai/gpt-4.1", "o200k_base"),
        ("GPT-5-nano", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo-0125", "cl100k_base"),
        ("text-embedding-3-small", "cl100k_base"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama3"),
        ("deepseek-chat", "deepseek_v3"),
        ("qwen/qwq-32b", "qwen3"),
        ("demo", "o200k_base"),
        ("", "o200k_base"),
    ],
)
def test_a_model_is_counted_with_its_vocabulary(model: str, vocabulary: str) -> None:
    assert vocabulary_of(model) == vocabulary


def test_special_tokens_in_a_users_text_are_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.count("<|endoftext|>", "gpt-4o") > 1


@pytest.mark.parametrize("text", ["\ud800", "a\ud800b", "\0", "\U0010ffff"])
def test_any_text_can_be_counted(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.count(text, "gpt-4o") > 0


@pytest.mark.parametrize("letter", ["a", " ", "\n", "ab", "!", "é", "1", "\U0001f600"])
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "llama-3", "deepseek-chat", "qwen3"])
def test_a_megabyte_of_one_letter_is_counted_in_linear_time(tokenizer: Tokenizer, letter: str, model: str) -> None:
    text = letter * (10**6 // len(letter.encode()))

    tokens = tokenizer.count(text, model)

    # Not timed: quadratic time would take hours, and the suite's time-out would end it.
    assert 0 < tokens <= len(text.encode())


def test_a_long_text_is_counted_in_slices_as_if_it_were_not(tokenizer: Tokenizer) -> None:
    assert tokenizer.count("hello world " * 300_000, "gpt-4o") == 600_001


def test_no_slice_of_a_long_text_keeps_other_threads_waiting_for_long(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = splintr.Tokenizer.from_pretrained("o200k_base")
    slices: list[str] = []

    class Recording:
        @staticmethod
        def encode_ordinary(text: str) -> Any:
            slices.append(text)
            return vocabulary.encode_ordinary(text)

    monkeypatch.setattr("sseproxy.tokenizer._loaded", {"o200k_base": Recording})
    text = "word " * 20_000 + "\U0001f600" * 100_000

    tokenizer.count(text, "gpt-4o")

    assert "".join(slices) == text
    assert max(map(len, slices)) <= 32 * 1024


@pytest.mark.usefixtures("nothing_loaded")
def test_counting_needs_no_network_and_loads_late(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a vocabulary was asked from the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    assert Tokenizer().count("hello", "gpt-4") == 1
    code = "import sys, sseproxy.tokenizer as t; t.Tokenizer(); sys.exit('splintr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


LATER = """
from pathlib import Path
from sseproxy.tokenizer import Tokenizer

tokenizer = Tokenizer()

def resident_pages(text):
    tokenizer.count(text, {model!r})
    return int(Path("/proc/self/statm").read_text().split()[1])

print(-resident_pages("hello") + resident_pages("qqxjz"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4"])
def test_nothing_is_left_to_be_built_for_the_first_unknown_word(model: str) -> None:
    script = LATER.format(model=model)

    grown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert int(grown) * os.sysconf("SC_PAGE_SIZE") < 2**20


@pytest.mark.usefixtures("nothing_loaded")
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "splintr", None)

    with pytest.raises(RuntimeError, match="pip install splintr-rs"):
        Tokenizer().count("hello", "gpt-4")


@pytest.mark.usefixtures("nothing_loaded")
def test_many_threads_that_count_first_load_one_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    class Counted:
        @staticmethod
        def from_pretrained(name: str) -> Any:
            loaded.append(name)
            return real.from_pretrained(name)

    real = splintr.Tokenizer
    monkeypatch.setattr(splintr, "Tokenizer", Counted)
    together = threading.Barrier(4)

    def count() -> None:
        together.wait()
        Tokenizer().count("two words", "m")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert loaded == ["o200k_base"]
