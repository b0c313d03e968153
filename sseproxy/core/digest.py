"""What secrets are known by: keys, and the tokens of sessions. They themselves are kept nowhere.

A random secret of 256 bits needs no salt and no slow hash: SHA-256 of it cannot be guessed back.
"""

from __future__ import annotations

import hashlib
from typing import Final

_SHA256: Final = hashlib.sha256()


def digest_of(secret: str) -> str:
    """The SHA-256 of a secret, whatever characters it has, in hex."""
    digest = _SHA256.copy()  # half the time that a new one takes, for which OpenSSL looks up the algorithm
    digest.update(secret.encode(errors="surrogatepass"))
    return digest.hexdigest()
