"""How a kind of upstream wants to be addressed: its URLs and its credentials. Pure.

``openai``: everybody who copies OpenAI's API (vLLM, llama.cpp, Ollama, OpenRouter, …); what they refuse is learnt from
their refusals, not from a table of vendors. ``azure``: https://learn.microsoft.com/azure/ai-foundry/openai/reference
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote

from sseproxy.core.chat import BadRequest

AZURE_VERSION: Final = "2024-10-21"
"""The newest version of Azure's dated API that is no preview."""
_OF_A_DEPLOYMENT: Final = ("/chat/completions", "/completions", "/embeddings")
_UPWARDS: Final = frozenset((".", ".."))
"""Segments of a path that no quoting takes for a name (RFC 3986 section 5.2.4)."""


class Flavor(Protocol):
    """How requests are addressed."""

    def url(self, base: str, path: str, query: str, model: str) -> str:
        """The URL for a path below ``/v1``.

        :param base: the configured URL or its path alone, without a slash at its end.
        :param model: as the upstream calls it; empty where the request names none.
        :raises BadRequest: the URL would be another path's by this model's name.
        """

    def credentials(self, key: str) -> dict[str, str]:
        """The header fields that carry the key."""


class OpenAI:
    """``{base}{path}`` and ``Authorization: Bearer``."""

    def url(self, base: str, path: str, query: str, model: str) -> str:
        """See :class:`Flavor`."""
        return base + path + (f"?{query}" if query else "")

    def credentials(self, key: str) -> dict[str, str]:
        """See :class:`Flavor`."""
        return {"authorization": f"Bearer {key}"}


@dataclass(frozen=True)
class Azure:
    """``{base}/openai/deployments/{model}{path}?api-version=…`` and ``api-key``. The model is the deployment."""

    api_version: str = AZURE_VERSION

    def url(self, base: str, path: str, query: str, model: str) -> str:
        """See :class:`Flavor`."""
        root = base.removesuffix("/openai") + "/openai"
        if model and path in _OF_A_DEPLOYMENT:
            if not _UPWARDS.isdisjoint(model.replace("\\", "/").split("/")):
                raise BadRequest("The field 'model' is no name of a deployment.", "model")
            root += f"/deployments/{quote(model, safe='')}"
        fields = [field for field in query.split("&") if field and field.partition("=")[0].lower() != "api-version"]
        return f"{root}{path}?" + "&".join([*fields, f"api-version={quote(self.api_version, safe='')}"])

    def credentials(self, key: str) -> dict[str, str]:
        """See :class:`Flavor`."""
        return {"api-key": key}
