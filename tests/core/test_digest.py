"""core/digest: what secrets are known by."""

from __future__ import annotations

import pytest

from sseproxy.config.users import hash_key
from sseproxy.core.digest import digest_of


def test_a_key_of_the_file_is_found_by_what_a_client_sends() -> None:
    assert hash_key("sk-alice") == digest_of("sk-alice")


@pytest.mark.parametrize("text", ["\ud800", "sk-\udcff", "?", "\xff", "\U0001f600"])
def test_any_text_has_a_digest_of_its_own(text: str) -> None:
    assert len(digest_of(text)) == 64
    assert digest_of(text) not in {digest_of(other) for other in ("\ud801", "sk-?", "\ufffd", "")}
