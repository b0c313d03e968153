"""Cuts keys out of what an upstream says of its errors: some quote the key they refuse, whole or in part. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

KEY_SHAPED: Final = re.compile(r"\b(?:sk|key|pk|gsk|xai)-[\w*.…-]{3,}[\w*]")
SHORTEST: Final = 4
"""A configured header value shorter than this is no secret, and would be found everywhere."""


class Redactor:
    """Replaces secrets by ``[key]``.

    :param secrets: values that must not be shown, such as an upstream's API key.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted((secret for secret in secrets if len(secret) >= SHORTEST), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without secrets, and without what looks like a key."""
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        return KEY_SHAPED.sub("[key]", text)

    def holds(self, text: str) -> bool:
        """Whether one of the secrets stands in the text."""
        # Not any(), whose generator costs more than the look: this is asked of every answer.
        for secret in self._secrets:  # noqa: SIM110
            if secret in text:
                return True
        return False
