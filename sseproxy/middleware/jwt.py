"""Maps JSON Web Tokens to user names (RFC 7519). The one file that imports PyJWT, which checks the signatures.

The token never chooses the algorithm: it must be configured, fit the kind of key and, with a key set, be that key's own
(RFC 8725, 3.1). No token, claim or key may get into a message or a log.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from time import monotonic
from typing import Any, Final

import jwt

from sseproxy.core.failure import Failure
from sseproxy.middleware.credentials import Unauthorized, is_user_name
from sseproxy.middleware.fetch import fetch_json

log = logging.getLogger("sseproxy.auth")

SYMMETRIC: Final = ("HS256", "HS384", "HS512")
ASYMMETRIC: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
SHORTEST_SECRET: Final = 32
"""Bytes; RFC 7518, 3.2: a key of the hash's size or larger must be used."""
LEEWAY: Final = 30.0
"""Seconds by which the issuer's clock may differ (RFC 7519, 4.1.4 and 4.1.5)."""
FETCH_SECONDS: Final = 5.0
KEYS_FRESH: Final = 300.0
"""Seconds after which a key set is fetched again, so that a withdrawn key stops working."""
KEYS_PAUSE: Final = 30.0
"""Seconds between two fetches of a key set, whatever key IDs clients make up and however the endpoint fails."""

PublicKey = Any
FindKey = Callable[[str | None], PublicKey]
"""The key with the ID that a token names, if it names one; None: there is none."""


class KeySet:
    """The keys at a URL (RFC 7517), cached; known keys go on working while the endpoint is away.

    :param fetch: fetches the current keys; may raise.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        fetch: Callable[[], Iterable[jwt.PyJWK]],
        *,
        fresh: float = KEYS_FRESH,
        pause: float = KEYS_PAUSE,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._fetch = fetch
        self._fresh = fresh
        self._pause = pause
        self._clock = clock
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched: float | None = None
        self._tried: float | None = None
        self._lock = threading.Lock()

    def find(self, kid: str | None) -> PublicKey | None:
        """The key with that ID; without an ID, the only key of the set.

        :raises Failure: (503) no keys could be fetched so far.
        """
        now = self._clock()
        known = self._known(kid)
        if known is None and self._lock.acquire(timeout=self._patience(now)):
            try:  # the first thread that waits fetches for all of them
                known = self._known(kid)
                if known is None and self._may_ask(self._clock()):
                    self._ask()
                    known = self._known(kid)
            finally:
                self._lock.release()
        elif known is not None and self._is_stale(now) and self._may_ask(now) and self._lock.acquire(blocking=False):
            try:
                self._ask()
            finally:
                self._lock.release()
            known = self._known(kid)
        if known is None and self._fetched is None:
            message = "Tokens cannot be checked now: their issuer's keys are not available. Try again later."
            raise Failure(message, status=503, code="jwks_unavailable", retry_after=self._pause)
        return known

    def _known(self, kid: str | None) -> jwt.PyJWK | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def _is_stale(self, now: float) -> bool:
        return self._fetched is None or now - self._fetched >= self._fresh

    def _patience(self, now: float) -> float:
        """Seconds to wait for another thread's fetch: no longer than that should take."""
        return FETCH_SECONDS if self._tried is None else max(0.0, self._tried + FETCH_SECONDS - now)

    def _may_ask(self, now: float) -> bool:
        return self._tried is None or now - self._tried >= self._pause

    def _ask(self) -> None:
        self._tried = self._clock()
        try:
            keys = {key.key_id: key for key in self._fetch() if _verifies(key)}
        except (jwt.PyJWTError, OSError, ValueError) as error:
            log.warning("the key set for tokens could not be fetched (%s); known keys go on working", _cause(error))
            return
        finally:
            # The pause begins at the end of the fetch: a slow endpoint gets it too.
            self._tried = self._clock()
        self._keys, self._fetched = keys, self._tried


def _verifies(key: jwt.PyJWK) -> bool:
    """Whether a token may be verified with this key: a public one for signatures, never a shared secret."""
    named = key.key_id is None or isinstance(key.key_id, str)
    return named and key.public_key_use in ("sig", None) and key.algorithm_name in ASYMMETRIC


def _cause(error: BaseException) -> str:
    return type(error.__cause__ or error).__name__


class TokenVerifier:
    """Verifies a token and names its user.

    :param find_key: finds the token's key.
    :param algorithms: the accepted ones.
    :param issuer: what ``iss`` must be; None: anything.
    :param audience: what ``aud`` must name; None: tokens with an audience are refused.
    :param user_claim: the claim that names the user.
    """

    def __init__(
        self,
        find_key: FindKey,
        algorithms: Iterable[str],
        *,
        issuer: str | None = None,
        audience: str | None = None,
        user_claim: str = "sub",
    ) -> None:
        self._find_key = find_key
        self._algorithms = list(algorithms)
        self._issuer = issuer
        self._audience = audience
        self._user_claim = user_claim

    def __call__(self, token: str) -> str:
        """The name of the token's user.

        :raises Unauthorized: it is invalid or names no user; the message says why.
        :raises Failure: (503) its issuer's keys cannot be fetched.
        """
        try:
            name = self._claims(token).get(self._user_claim)
        except jwt.PyJWTError as error:
            raise Unauthorized(_words(error), "invalid_token") from None
        if not isinstance(name, str) or not is_user_name(name):
            raise Unauthorized(f"The token names no user in its claim '{self._user_claim}'.", "invalid_token")
        return name

    def _claims(self, token: str) -> Mapping[str, Any]:
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in self._algorithms:
            raise jwt.InvalidAlgorithmError
        kid = header.get("kid")
        key = self._find_key(kid if isinstance(kid, str) else None)
        if key is None:
            raise jwt.InvalidKeyError
        return jwt.decode(
            token,
            key,
            algorithms=self._algorithms,
            issuer=self._issuer,
            audience=self._audience,
            leeway=LEEWAY,
            # The time of issue is no reason to refuse a token (RFC 7519, 4.1.6).
            options={"require": [self._user_claim], "verify_iat": False, "verify_sub": False, "verify_jti": False},
        )


_WORDS: Final[tuple[tuple[type[jwt.PyJWTError], str], ...]] = (
    (jwt.ExpiredSignatureError, "The token has expired. Get a new one."),
    (jwt.ImmatureSignatureError, "The token is not valid yet."),
    (jwt.InvalidAudienceError, "The token was made for somebody else: its audience is another."),
    (jwt.InvalidIssuerError, "The token was made by an issuer that is not trusted here."),
    (jwt.InvalidAlgorithmError, "The token is signed in a way that is not accepted here."),
    (jwt.InvalidKeyError, "The token is signed with a key that is not known here."),
    (jwt.InvalidSignatureError, "The token's signature is wrong."),
)


def _words(error: jwt.PyJWTError) -> str:
    """Why a token is refused; PyJWT's own messages may repeat what was sent."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"The token lacks the claim '{error.claim}'."
    return next((words for kind, words in _WORDS if isinstance(error, kind)), "The token is malformed.")


def secret_verifier(secret: str, algorithms: Iterable[str] = (), **claims: Any) -> TokenVerifier:
    """For tokens that are signed with a shared secret; HS256 unless ``algorithms`` says otherwise."""
    key = secret.encode()
    if len(key) < SHORTEST_SECRET:
        log.warning("the secret for tokens has %d bytes; it should have %d or more", len(key), SHORTEST_SECRET)
        warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)
    return TokenVerifier(lambda _: key, tuple(algorithms) or SYMMETRIC[:1], **claims)


def public_key_verifier(pem: str, algorithms: Iterable[str] = (), **claims: Any) -> TokenVerifier:
    """For tokens that are signed with the private half of this key; by default with the first algorithm that fits it.

    :raises ValueError: it is not a public key in PEM for one of the algorithms.
    """
    fitting = [name for name in tuple(algorithms) or ASYMMETRIC if _fits(pem, name)]
    if not fitting:
        raise ValueError(
            "expected a public key in PEM, of RSA, an elliptic curve or Ed25519, for one of the algorithms"
        )
    return TokenVerifier(lambda _: pem, fitting if algorithms else fitting[:1], **claims)


def _fits(pem: str, algorithm: str) -> bool:
    judge = jwt.get_algorithm_by_name(algorithm)
    if "PRIVATE KEY" in pem:
        return False
    try:
        judge.prepare_key(pem)
    except (jwt.PyJWTError, ValueError, TypeError):
        return False
    return True


def key_set_verifier(url: str, algorithms: Iterable[str] = (), **claims: Any) -> TokenVerifier:
    """For tokens that are signed with a key of the set at a URL, which is fetched when the first token comes."""
    return TokenVerifier(KeySet(partial(_fetch_keys, url)).find, tuple(algorithms) or ASYMMETRIC, **claims)


def _fetch_keys(url: str) -> list[jwt.PyJWK]:
    document = fetch_json(url, FETCH_SECONDS)
    if not isinstance(document, dict):
        raise ValueError("a key set is a JSON object")
    return jwt.PyJWKSet.from_dict(document).keys
