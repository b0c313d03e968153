"""core/path_patterns: which paths are meant, however they are spelt."""

from __future__ import annotations

import pytest

from sseproxy.core.path_patterns import PathPatterns, plain_path


@pytest.mark.parametrize("path", ["/api/ask", "/api/ask/", "//api//ask", "/talk/a/b", "/caf\u00c3\u00a9"])
def test_a_path_that_matches_is_contained_in_any_spelling(path: str) -> None:
    assert path in PathPatterns(["/api/ask/", "/talk/*", "/caf\u00e9"])


@pytest.mark.parametrize("path", ["/api/asks", "/API/ask", "/talk", "/", "", None])
def test_other_paths_are_not(path: object) -> None:
    assert path not in PathPatterns(["/api/ask", "/talk/*"])


def test_a_plain_path_has_single_slashes_and_none_at_its_end() -> None:
    assert [plain_path(path) for path in ("", "/", "//a//b/", "a")] == ["/", "/", "/a/b", "/a"]


@pytest.mark.parametrize("path", ["/a/./b", "/x/../a/b/.", "/../a/b", "/a/b\n", "/a\x00/\x7fb", "/a/c/..\t/b"])
def test_a_plain_path_has_no_dots_that_point_and_no_control_characters(path: str) -> None:
    assert plain_path(path) == "/a/b"
