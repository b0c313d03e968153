"""middleware/jwt: which tokens are trusted, whose they are, and what the others are told. RFC 7519, RFC 8725."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sseproxy.core.failure import Failure
from sseproxy.middleware.credentials import Unauthorized
from sseproxy.middleware.jwt import FETCH_SECONDS, KeySet, TokenVerifier, public_key_verifier, secret_verifier

SECRET = "0123456789abcdef0123456789abcdef"
RSA = rsa.generate_private_key(65537, 2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    """The public half."""
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def token(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **claims: Any) -> str:
    claims = {"sub": "alice", **claims}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid} if kid else None)


def unsigned(header: dict[str, Any], **claims: Any) -> str:
    parts = (json.dumps(header), json.dumps({"sub": "alice", **claims}))
    return ".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts) + "."


def refusal(verify: Callable[[str], str], token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        verify(token)
    assert (caught.value.status, caught.value.code) == (401, "invalid_token")
    for part in filter(None, token.split(".")):
        assert part not in caught.value.message
    return caught.value.message


def test_a_token_signed_with_the_secret_names_its_user() -> None:
    assert secret_verifier(SECRET)(token()) == "alice"


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (CURVE, "ES256"), (EDWARDS, "EdDSA")])
def test_a_public_key_brings_its_own_algorithm(key: Any, algorithm: str) -> None:
    assert public_key_verifier(pem(key))(token(key, algorithm)) == "alice"


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": int(time.time()) - 60}, "expired"),
        ({"nbf": int(time.time()) + 86400}, "not valid yet"),
        ({"iss": "other"}, "issuer"),
        ({"aud": "other"}, "audience"),
        ({"aud": ["other", "another"]}, "audience"),
        ({"sub": None}, "lacks the claim"),
        ({"sub": ""}, "names no user"),
        ({"sub": 7}, "names no user"),
        ({"sub": "a\nb"}, "names no user"),
        ({"sub": "x" * 201}, "names no user"),
        ({"exp": "soon"}, "malformed"),
    ],
)
def test_a_token_with_a_wrong_claim_is_told_which(claims: dict[str, Any], words: str) -> None:
    verify = secret_verifier(SECRET, issuer="us", audience="sseproxy")
    made = jwt.encode({"sub": "alice", "iss": "us", "aud": "sseproxy", **claims}, SECRET)

    assert words in refusal(verify, made)


@pytest.mark.parametrize(
    ("wanted", "missing"), [({"audience": "us"}, "aud"), ({"issuer": "us"}, "iss"), ({"user_claim": "email"}, "email")]
)
def test_a_claim_that_is_asked_for_must_be_there(wanted: dict[str, str], missing: str) -> None:
    assert missing in refusal(secret_verifier(SECRET, **wanted), token())


def test_another_claim_can_name_the_user() -> None:
    assert secret_verifier(SECRET, user_claim="email")(token(email="a@example.com", sub="7")) == "a@example.com"


def test_a_token_for_somebody_in_particular_is_refused_where_no_audience_is_configured() -> None:
    assert "audience" in refusal(secret_verifier(SECRET), token(aud="somebody"))


@pytest.mark.parametrize(("claim", "ahead"), [("iat", 5), ("iat", 86400), ("nbf", 20), ("exp", -10)])
def test_a_token_made_by_a_clock_that_is_ahead_or_behind_is_accepted(claim: str, ahead: int) -> None:
    assert secret_verifier(SECRET)(token(**{claim: int(time.time()) + ahead})) == "alice"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, "HS999", "RS256", ["HS256"], {}])
def test_an_algorithm_that_is_not_expected_is_refused(alg: Any) -> None:
    refusal(secret_verifier(SECRET), unsigned({"alg": alg, "typ": "JWT"}))


def test_a_public_key_cannot_be_used_as_a_shared_secret() -> None:
    """The classic confusion: sign with HMAC and the public key that everybody knows."""
    import hashlib
    import hmac

    body = unsigned({"alg": "HS256", "typ": "JWT"}).rstrip(".")
    signature = hmac.new(pem(RSA).encode(), body.encode(), hashlib.sha256).digest()
    forged = f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    assert "not accepted" in refusal(public_key_verifier(pem(RSA)), forged)
    with pytest.raises(ValueError, match="public key"):
        public_key_verifier(pem(RSA), ["HS256"])


def test_another_s_signature_and_a_changed_claim_are_refused() -> None:
    header, _, signature = token().split(".")
    _, claims, _ = token(sub="root").split(".")

    assert "signature" in refusal(secret_verifier(SECRET), f"{header}.{claims}.{signature}")
    assert "signature" in refusal(secret_verifier(SECRET), token("another secret of thirty-two byte"))
    assert "signature" in refusal(public_key_verifier(pem(RSA)), token(rsa.generate_private_key(65537, 2048), "RS256"))


@pytest.mark.parametrize(
    "junk", ["..", "YQ.YQ.YQ", "e30.e30.", "é.ü.ö", "e30=.e30=.e30=", "W10.W10.W10", "." * 2 + "x"]
)
def test_what_is_no_token_is_refused(junk: str) -> None:
    refusal(secret_verifier(SECRET), junk)


def test_a_private_key_or_a_text_is_no_public_key() -> None:
    private = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for text in (private, "text", "", pem(RSA)[:200], pem(RSA).replace("A", "B")):
        with pytest.raises(ValueError, match="expected a public key in PEM"):
            public_key_verifier(text)


class Endpoint:
    """A key set whose keys, absence and clock a test decides."""

    def __init__(self, **keys: Any) -> None:
        self.keys = keys
        self.asked = 0
        self.away = False
        self.now = 1000.0
        self.set = KeySet(self._fetch, fresh=300, pause=30, clock=lambda: self.now)
        self.verify = TokenVerifier(self.set.find, ["RS256", "ES256"])

    def _fetch(self) -> list[jwt.PyJWK]:
        self.asked += 1
        if self.away:
            raise jwt.PyJWKClientConnectionError("away")
        return [jwk(key, kid) for kid, key in self.keys.items()]


def jwk(key: Any, kid: Any, **more: Any) -> jwt.PyJWK:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    if isinstance(key, str):
        encoded = base64.urlsafe_b64encode(key.encode()).decode()
        return jwt.PyJWK({"kty": "oct", "k": encoded, "kid": kid, **more})
    return jwt.PyJWK({**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, **more})


def test_keys_are_fetched_with_the_first_token_and_remembered() -> None:
    endpoint = Endpoint(a=RSA, b=CURVE)
    assert endpoint.asked == 0

    for _ in range(5):
        assert endpoint.verify(token(RSA, "RS256", "a")) == "alice"
        assert endpoint.verify(token(CURVE, "ES256", "b")) == "alice"
    assert endpoint.asked == 1


def test_a_new_key_is_found_and_a_withdrawn_one_stops_working() -> None:
    endpoint = Endpoint(old=RSA)
    endpoint.verify(token(RSA, "RS256", "old"))
    endpoint.keys = {"new": CURVE}
    endpoint.now += 30

    assert endpoint.verify(token(CURVE, "ES256", "new")) == "alice"
    assert "not known" in refusal(endpoint.verify, token(RSA, "RS256", "old"))


def test_a_withdrawn_key_stops_working_without_a_new_one() -> None:
    endpoint = Endpoint(old=RSA, other=CURVE)
    endpoint.verify(token(RSA, "RS256", "old"))
    del endpoint.keys["old"]
    endpoint.now += 299
    assert endpoint.verify(token(RSA, "RS256", "old")) == "alice"
    endpoint.now += 1

    assert "not known" in refusal(endpoint.verify, token(RSA, "RS256", "old"))


@pytest.mark.parametrize("away", [False, True])
def test_made_up_kids_cause_no_storm(away: bool) -> None:
    endpoint = Endpoint(a=RSA)
    endpoint.verify(token(RSA, "RS256", "a"))
    endpoint.away = away

    for number in range(100):
        endpoint.now += 0.5
        refusal(endpoint.verify, token(RSA, "RS256", f"made-up-{number}"))
    assert endpoint.asked <= 1 + 2


def test_known_keys_go_on_working_while_the_endpoint_is_away() -> None:
    endpoint = Endpoint(a=RSA)
    endpoint.verify(token(RSA, "RS256", "a"))
    endpoint.away = True
    for _ in range(50):
        endpoint.now += 60
        assert endpoint.verify(token(RSA, "RS256", "a")) == "alice"


def test_before_any_key_could_be_had_it_is_the_proxy_s_fault() -> None:
    endpoint = Endpoint(a=RSA)
    endpoint.away = True
    for _ in range(10):
        with pytest.raises(Failure) as caught:
            endpoint.verify(token(RSA, "RS256", "a"))
        assert (caught.value.status, caught.value.code) == (503, "jwks_unavailable")
    assert endpoint.asked == 1
    endpoint.away = False
    endpoint.now += 30

    assert endpoint.verify(token(RSA, "RS256", "a")) == "alice"


def test_nobody_waits_for_an_endpoint_that_takes_longer_than_it_should() -> None:
    now, asked, answered = 1000.0, threading.Event(), threading.Event()

    def fetch() -> list[jwt.PyJWK]:
        nonlocal now
        now += FETCH_SECONDS
        asked.set()
        answered.wait()
        return [jwk(RSA, "a")]

    keys = KeySet(fetch, clock=lambda: now)
    asking = threading.Thread(target=keys.find, args=("a",))
    asking.start()
    asked.wait()

    with pytest.raises(Failure) as caught:
        keys.find("a")
    answered.set()
    asking.join()

    assert (caught.value.status, caught.value.code) == (503, "jwks_unavailable")
    assert keys.find("a") is not None


def test_a_token_without_a_kid_is_checked_with_the_only_key_there_is() -> None:
    assert Endpoint(a=RSA).verify(token(RSA, "RS256")) == "alice"
    assert "not known" in refusal(Endpoint(a=RSA, b=CURVE).verify, token(RSA, "RS256"))


def test_the_key_s_own_algorithm_is_the_only_one_it_verifies() -> None:
    refusal(Endpoint(a=CURVE).verify, token(RSA, "RS256", "a"))


def test_a_shared_secret_or_an_encryption_key_in_a_key_set_verifies_nothing() -> None:
    keys = [jwk(SECRET, "secret"), jwk(RSA, "enc", use="enc")]
    verify = TokenVerifier(KeySet(lambda: keys).find, ["HS256", "RS256"])

    assert "not known" in refusal(verify, token(SECRET, "HS256", "secret"))
    assert "not known" in refusal(verify, token(RSA, "RS256", "enc"))


@pytest.mark.parametrize("kid", [["a"], {"a": 1}, 7])
def test_a_key_whose_kid_is_no_text_is_left_out_of_its_set(kid: Any) -> None:
    verify = TokenVerifier(KeySet(lambda: [jwk(RSA, "a"), jwk(CURVE, kid)]).find, ["RS256", "ES256"])

    assert verify(token(RSA, "RS256", "a")) == "alice"
    assert verify(token(RSA, "RS256")) == "alice"
