"""The section ``auth``: who is let in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema, model_validator

from sseproxy.config.contents import Contents
from sseproxy.config.http_address import http_parts
from sseproxy.config.section import Section
from sseproxy.config.values import Expected, Flag, Text, kind

if TYPE_CHECKING:
    from sseproxy.middleware.jwt import TokenVerifier


def _secret(value: object) -> object:
    if not isinstance(value, (str, SecretStr)):
        raise Expected(f"expected text, not {kind(value)}; put it in quotes")
    if not value:
        raise Expected("expected a secret that is not empty")
    return value


def _url(value: str) -> str:
    if http_parts(value) is None:
        raise Expected("expected an http:// or https:// address of a JSON Web Key Set")
    return value


def _algorithms(names: tuple[str, ...]) -> tuple[str, ...]:
    from sseproxy.middleware.jwt import ASYMMETRIC, SYMMETRIC

    for name in names:
        if name not in (*SYMMETRIC, *ASYMMETRIC):
            raise Expected(f"expected some of {', '.join((*SYMMETRIC, *ASYMMETRIC))}")
    return names


class Jwt(Section):
    """JSON Web Tokens, sent where a key would be. Exactly one of ``jwks_url``, ``secret`` and ``public_key``."""

    jwks_url: Annotated[Text, AfterValidator(_url)] | None = Field(
        default=None,
        description="Address of the issuer's key set, of 1 MiB at most and sent within 5 s. Fetched with the first "
        "token, then every five minutes, and when a token names an unknown key (at most every 30 s); while it cannot "
        "be fetched, known keys go on working.",
    )
    secret: Annotated[SecretStr, BeforeValidator(_secret), WithJsonSchema({"type": "string"})] | None = Field(
        default=None, description="Shared secret; 32 bytes or more, best as `${VAR}`."
    )
    public_key: Contents | None = Field(
        default=None, description="Public key in PEM, or `{file: PATH}`, relative to the configuration file."
    )
    issuer: Text | None = Field(default=None, description="What `iss` must be. Without it: anyone.")
    audience: Text | None = Field(
        default=None,
        description="What `aud` must name; without it, tokens that have an `aud` are refused, as RFC 7519 wants it.",
    )
    user_claim: Text = Field(default="sub", description="The claim that is the user's name.")
    algorithms: Annotated[tuple[Text, ...], AfterValidator(_algorithms)] = Field(
        default=(),
        description="Algorithms that are accepted. Default: HS256 for a `secret`, RS256, ES256, ES384, ES512 or "
        "EdDSA as a `public_key` is, each key's own in a key set. `none` is never accepted, and HS256 "
        "never with public keys.",
    )

    @model_validator(mode="after")
    def _usable(self) -> Jwt:
        from sseproxy.middleware.jwt import SYMMETRIC

        if sum(given is not None for given in (self.jwks_url, self.secret, self.public_key)) != 1:
            raise Expected("expected exactly one of jwks_url, secret and public_key")
        if any((name in SYMMETRIC) != (self.secret is not None) for name in self.algorithms):
            raise Expected("HS256, HS384 and HS512 are for a secret, the other algorithms for public keys")
        if self.public_key is not None:
            try:
                self.verifier()
            except ValueError as error:
                raise Expected(f"public_key: {error}") from None
        return self

    def verifier(self) -> TokenVerifier:
        """What tells whose a token is."""
        # Loaded only where it is used: cryptography is large.
        from sseproxy.middleware.jwt import key_set_verifier, public_key_verifier, secret_verifier

        claims: dict[str, Any] = {"issuer": self.issuer, "audience": self.audience, "user_claim": self.user_claim}
        if self.secret is not None:
            return secret_verifier(self.secret.get_secret_value(), self.algorithms, **claims)
        if self.public_key is not None:
            return public_key_verifier(self.public_key, self.algorithms, **claims)
        assert self.jwks_url is not None
        return key_set_verifier(self.jwks_url, self.algorithms, **claims)


class Auth(Section):
    """Who is let in."""

    required: Flag = Field(
        default=True,
        description="Refuse requests without valid credentials. With `false` those without any are let in and "
        "billed to `anonymous`; wrong ones are refused even then.",
    )
    remote_user: Flag = Field(
        default=False,
        description="Trust `REMOTE_USER` as the server in front, or a middleware around this one, has set it. No "
        "client can: its headers never become that variable. A request with a key or token of its own "
        "is judged by that alone.",
    )
    jwt: Jwt | None = Field(
        default=None,
        description="Accept JSON Web Tokens where a key would be: a credential of three parts with dots between "
        "that is no known key. Exactly one of `jwks_url`, `secret` and `public_key`.",
    )
