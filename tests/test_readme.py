"""The examples of the README are run, not believed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from werkzeug.test import Client
from werkzeug.wrappers import Response

from sseproxy.config import Config
from sseproxy.demo import app as demo

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
ASK = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "demo": {"tokens": 3}}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def python_block(word: str) -> str:
    return next(block for block in blocks("python") if word in block)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_yaml_example_is_a_valid_configuration(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "ALICE_KEY"):
        monkeypatch.setenv(name, "sk-" + "x" * 40)
    path = tmp_path / "config.yaml"
    path.write_text(block, "utf-8")

    assert set(yaml.safe_load(block)) <= set(Config.model_fields)
    assert Config.load(path)


def test_the_flask_example_meters_the_app_and_lets_other_paths_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": __name__}
    exec(python_block("Flask"), scope)
    app = scope["app"]
    assert callable(app)
    app.route("/v1/chat/completions", methods=["POST"])(_answer_as_demo)  # type: ignore[attr-defined]
    app.route("/hello")(lambda: "hello")  # type: ignore[attr-defined]
    client = Client(app)

    assert client.get("/hello").text == "hello"
    assert client.post("/v1/chat/completions", json=ASK).status_code == 401
    answer = client.post("/v1/chat/completions", json=ASK, headers={"Authorization": "Bearer sk-alice"})
    assert answer.status_code == 200
    assert answer.json["usage"]["completion_tokens"] == 3


def test_the_dispatcher_example_mounts_the_proxy_under_a_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("users: {alice: {keys: [sk-alice]}}\n", "utf-8")
    scope: dict[str, object] = {"site": Response("the site")}
    exec(python_block("DispatcherMiddleware"), scope)
    client = Client(_callable(scope["app"]))

    assert client.get("/").text == "the site"
    assert client.get("/llm/-/health").status_code == 200
    assert client.post("/llm/v1/chat/completions", json=ASK).status_code == 401
    answer = client.post("/llm/v1/chat/completions", json=ASK, headers={"Authorization": "Bearer sk-alice"})
    assert answer.json["usage"]["completion_tokens"] == 3


def test_every_command_the_readme_names_exists() -> None:
    from sseproxy.cli import main

    named = set(re.findall(r"`(?:\.venv/bin/)?sseproxy ([a-z]+)", README)) | {"usage", "serve"}

    assert named <= set(main.commands)


def test_every_make_target_the_documents_name_exists() -> None:
    documents = README + (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = set(re.findall(r"make (run|test|lint|format|bench|fuzz|[a-z]+(?=`))", documents))
    makefile = (ROOT / "Makefile").read_text("utf-8")

    assert [target for target in named if not re.search(rf"^{target}:", makefile, re.M)] == []


def _answer_as_demo() -> Response:
    from flask import request

    return Response.from_app(demo, request.environ)


def _callable(app: object) -> Callable[..., object]:
    assert callable(app)
    return app
