"""JSON Web Tokens and REMOTE_USER through the whole stack: whose request it is, and in whose name it is billed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from werkzeug.test import Client

from sseproxy import create_app
from tests.harness import RawClient, Upstream, raw, refuse, serve, stream

from .books import CHAT, KEY, Books, config

SECRET = "0123456789abcdef0123456789abcdef"
PATH = "/v1/chat/completions"


def key_set(**keys: rsa.RSAPrivateKey) -> Any:
    members = [
        {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig", "alg": "RS256"}
        for kid, key in keys.items()
    ]
    content = json.dumps({"keys": members}).encode()
    return raw(content, headers=(("Content-Type", "application/json"),), framing="length")


@pytest.fixture
def issuer() -> Iterator[Upstream]:
    """Serves a key set as any script of an upstream would serve anything."""
    with Upstream() as running:
        yield running


def status(proxy: Any, credential: str) -> int:
    with RawClient(proxy.url) as client:
        client.post(PATH, CHAT, key=credential).read_body()
        return client.status


def test_the_user_of_a_token_is_billed_and_has_what_the_configuration_gives_that_name(
    upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = stream(tokens=2)
    users = {"alice": {"keys": [KEY], "models": ["fast"]}}
    settings = config(upstream.url, tmp_path, users=users, auth={"jwt": {"secret": SECRET, "audience": "sseproxy"}})
    make = lambda name, **claims: jwt.encode({"sub": name, "aud": "sseproxy", **claims}, SECRET)  # noqa: E731
    with serve(settings) as proxy:
        assert status(proxy, make("bob")) == 200
        assert status(proxy, make("alice")) == 404, "alice may not ask for m"
        assert status(proxy, make("bob", exp=int(time.time()) - 60)) == 401
        assert status(proxy, jwt.encode({"sub": "bob"}, SECRET)) == 401
        assert status(proxy, make("bob") + "x") == 401
        assert SECRET not in proxy.log
        assert make("bob").split(".")[2] not in proxy.log

    assert [(row["user"], row["key"]) for row in books.charges()] == [("bob", "jwt")]


def test_keys_rotate_while_the_proxy_runs_and_outlive_their_endpoint(
    upstream: Upstream, issuer: Upstream, tmp_path: Path
) -> None:
    upstream.script = stream(tokens=2)
    key = rsa.generate_private_key(65537, 2048)
    token = jwt.encode({"sub": "bob"}, key, algorithm="RS256", headers={"kid": "a"})
    issuer.script = key_set(a=key)
    with serve(config(upstream.url, tmp_path, auth={"jwt": {"jwks_url": f"{issuer.url}/keys"}})) as proxy:
        assert status(proxy, token) == 200
        issuer.script = refuse(500)
        strange = rsa.generate_private_key(65537, 2048)
        for number in range(20):
            made_up = jwt.encode({"sub": "bob"}, strange, algorithm="RS256", headers={"kid": str(number)})
            assert status(proxy, made_up) == 401
        assert status(proxy, token) == 200

    assert len(issuer.exchanges) == 1


def as_remote_user(app: Any, name: str) -> Callable[..., Any]:
    return lambda environ, start_response: app({**environ, "REMOTE_USER": name}, start_response)


@pytest.mark.parametrize("trusted", [True, False])
def test_remote_user_counts_only_where_it_is_trusted(
    trusted: bool, upstream: Upstream, tmp_path: Path, books: Books
) -> None:
    upstream.script = stream(tokens=2)
    app = create_app(config(upstream.url, tmp_path, auth={"remote_user": trusted}))

    assert Client(as_remote_user(app, "erin")).post(PATH, json=CHAT).status_code == (200 if trusted else 401)
    assert Client(app).post(PATH, json=CHAT, headers={"Remote-User": "erin"}).status_code == 401
    app.close()
    assert [row["user"] for row in books.charges()] == (["erin"] if trusted else [])
