"""The section ``prompt``: the text that goes before what clients send, byte for byte the same every time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sseproxy.config.contents import Contents
from sseproxy.config.section import Section


class PromptFor(Section):
    """The prefix for one model or one user."""

    prefix: Contents | None = Field(default=None, description="Replaces the general prefix; an empty text means none.")


class Prompt(Section):
    """What goes before the client's messages. The more specific wins: user, then model, then the general prefix."""

    prefix: Contents | None = Field(
        default=None,
        description="Text, or `{file: PATH}`; the path is relative to the configuration file. Newlines at the "
        "file's end do not count.",
    )
    role: Literal["system", "developer"] = Field(
        default="system", description="Role of the prefix in chat messages: `system` or `developer`."
    )
    client_system: Literal["keep", "merge", "drop", "reject"] = Field(
        default="keep",
        description="The client's own system messages. `keep`: after the prefix; `merge`: prefix and they in one "
        "message; `drop`: left out; `reject`: 400.",
    )
    models: dict[str, PromptFor] = Field(default_factory=dict, description="Prefixes by model.")
    users: dict[str, PromptFor] = Field(default_factory=dict, description="Prefixes by user.")
