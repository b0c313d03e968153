"""Cuts keys out of what an upstream says of its errors: some quote the key they refuse, whole or in part. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from sseproxy.core.failure import Failure

KEY_SHAPED: Final = re.compile(r"\b(?:sk|key|pk|gsk|xai)-[\w*.…-]{3,}[\w*]")
SHORTEST: Final = 4
"""A configured header value shorter than this is no secret, and would be found everywhere."""


class Redactor:
    """Replaces secrets by ``[key]``.

    :param secrets: values that must not be shown, such as an upstream's API key.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted((secret for secret in secrets if len(secret) >= SHORTEST), key=len, reverse=True)
        self._spelt = re.compile("|".join(map(_spellings, self._secrets)) or r"(?!)")

    def __call__(self, text: str) -> str:
        """The text, which may be JSON, without secrets, and without what looks like a key."""
        return KEY_SHAPED.sub("[key]", self._spelt.sub("[key]", text))

    def holds(self, text: str) -> bool:
        """Whether one of the secrets stands in the text."""
        # Not any(), whose generator costs more than the look: this is asked of every answer.
        for secret in self._secrets:  # noqa: SIM110
            if secret in text:
                return True
        return False


def _spellings(secret: str) -> str:
    """A pattern for the secret, each letter of it as it is or escaped as JSON may have it."""
    return "".join(rf"(?:{re.escape(letter)}|\\u(?i:{ord(letter):04x})|\\{re.escape(letter)})" for letter in secret)


def redact_failure(failure: Failure, redact: Callable[[str], str]) -> None:
    """Let `redact` cut what is no client's business out of all that a failure says."""
    failure.message, failure.type = redact(failure.message), redact(failure.type)
    failure.request_id = redact(failure.request_id)
    if isinstance(failure.code, str):
        failure.code = redact(failure.code)
    if failure.param is not None:
        failure.param = redact(failure.param)
    if failure.further:
        failure.further = json.loads(redact(json.dumps(failure.further)))


def secrets_of(values: Iterable[str]) -> Iterator[str]:
    """What is secret of header values: each as a whole, and what follows a scheme (``Bearer …``)."""
    for value in values:
        yield value
        yield value.rpartition(" ")[2]
