"""upstream/flavor: URLs and credentials of each kind of upstream."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from sseproxy.core.chat import BadRequest
from sseproxy.upstream.flavor import Azure, OpenAI

BASE = "https://x.openai.azure.com"


def test_openai_s_paths_hang_below_the_base_url() -> None:
    assert OpenAI().url("http://h/v1", "/chat/completions", "", "m") == "http://h/v1/chat/completions"
    assert OpenAI().url("http://h/v1", "/files", "a=1", "") == "http://h/v1/files?a=1"
    assert OpenAI().credentials("k") == {"authorization": "Bearer k"}


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/embeddings"])
@pytest.mark.parametrize("base", [BASE, f"{BASE}/openai"])
def test_azure_s_model_is_the_deployment(path: str, base: str) -> None:
    url = Azure("2024-10-21").url(base, path, "", "gpt 4/o")

    assert url == f"{BASE}/openai/deployments/gpt%204%2Fo{path}?api-version=2024-10-21"


@pytest.mark.parametrize("model", ["..", ".", "../..", "a/../b", "..\\x"])
def test_a_model_that_would_lead_azure_to_another_path_is_refused(model: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Azure().url(BASE, "/chat/completions", "", model)

    assert (caught.value.status, caught.value.param) == (400, "model")


@pytest.mark.parametrize("model", ["gpt-4.1", "..a", "...", "%2e%2e"])
def test_dots_in_a_deployment_s_name_are_none_of_a_path_s(model: str) -> None:
    assert f"/deployments/{quote(model)}/" in Azure().url(BASE, "/chat/completions", "", model)


def test_azure_s_version_is_the_configured_one_whatever_the_client_says() -> None:
    url = Azure("v").url(BASE, "/chat/completions", "api-version=2099-01-01&a=1&API-Version=", "m")

    assert url == f"{BASE}/openai/deployments/m/chat/completions?a=1&api-version=v"


def test_azure_s_other_paths_belong_to_no_deployment() -> None:
    assert Azure("v").url(BASE, "/models", "", "") == f"{BASE}/openai/models?api-version=v"
    assert Azure("v").url(BASE, "/responses", "a=1", "m") == f"{BASE}/openai/responses?a=1&api-version=v"
    assert Azure("v").credentials("k") == {"api-key": "k"}
