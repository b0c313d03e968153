"""upstream/target: what stands in the request line."""

from __future__ import annotations

import pytest

from sseproxy.upstream.flavor import Azure, OpenAI
from sseproxy.upstream.target import RequestTargets


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [
        ("/v1/chat/completions", "", "/base/chat/completions"),
        ("/v1/files", "a=1&b=%20", "/base/files?a=1&b=%20"),
        ("/v1/caf\xc3\xa9 x", "q=\xc3\xa9 1", "/base/caf%C3%A9%20x?q=%C3%A9%201"),
        ("/v1/a\r\nX: y", "", "/base/a%0D%0AX:%20y"),
    ],
)
def test_a_path_and_its_query_stand_below_the_base_in_characters_that_may(path: str, query: str, target: str) -> None:
    targets = RequestTargets(OpenAI(), "/base", "http://upstream.test")

    assert [targets.write(path, query, "m") for _ in range(2)] == ["http://upstream.test" + target] * 2


def test_neither_a_query_nor_another_model_is_taken_from_the_request_before() -> None:
    targets = RequestTargets(Azure("1"), "")

    assert targets.write("/v1/completions", "", "a") == "/openai/deployments/a/completions?api-version=1"
    assert targets.write("/v1/completions", "key=1", "a") == "/openai/deployments/a/completions?key=1&api-version=1"
    assert targets.write("/v1/completions", "key=2", "b") == "/openai/deployments/b/completions?key=2&api-version=1"
    assert targets.write("/v1/completions", "", "b") == "/openai/deployments/b/completions?api-version=1"
    assert targets.write("/v1/completions", "", "a") == "/openai/deployments/a/completions?api-version=1"
