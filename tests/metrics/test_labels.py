"""Labels: few, whatever comes in."""

from __future__ import annotations

from sseproxy.metrics.labels import MOST, NONE, OTHER, Named, RouteLabels

LABELS = RouteLabels(
    ["/v1/chat/completions", "/-/health"],
    ["/-/streams/"],
    lambda path: "/say/<q>" if path.startswith("/say/") else path,
    ["/api/*"],
)


def test_a_path_is_itself_a_pattern_or_other() -> None:
    paths = ["/v1/chat/completions", "/-/streams/0123", "/say/secret", "/api/a/b", "/wp-login.php", ""]

    assert [LABELS.of(path) for path in paths] == [
        "/v1/chat/completions", "/-/streams/*", "/say/<q>", "/api/*", OTHER, OTHER,
    ]  # fmt: skip


def test_a_path_that_only_looks_like_a_pattern_is_other() -> None:
    assert LABELS.of("/<made>/<up>") == OTHER


def test_names_past_the_most_are_one() -> None:
    named = Named([f"m{number}" for number in range(MOST + 50)])

    assert {named(f"m{number}") for number in range(MOST + 50)} == {f"m{number}" for number in range(MOST)} | {OTHER}
    assert (named("unknown"), named(None)) == (OTHER, NONE)
