"""The run's own identity provider: tokens signed with a key that lives as long as the run, and the sign-in for them.

Uses the standard library and PyJWT, nothing of the product.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

TWELVE_HOURS = 12 * 3600
KEY_ID = "local"
# Who signs in on this machine.
STAFF = "staff-local"


class Tokens:
    """Issues access tokens as the practice's identity provider would, and checks them as API Gateway does.

    `lifetime` is how many seconds the next tokens are valid, where nothing else is said.
    """

    def __init__(self, issuer: str, audiences: list[str]) -> None:
        self.issuer = issuer
        self.lifetime = TWELVE_HOURS
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._audiences = audiences

    def issue(self, sub: str, practice_ids: Iterable[str], scope: str, lifetime: int | None = None) -> str:
        """Return a token for `sub`; scopes are space-separated, the lifetime is in seconds."""
        now = int(time.time())
        return self.sign(
            {
                "iss": self.issuer,
                "aud": self._audiences[0],
                "iat": now,
                "exp": now + (self.lifetime if lifetime is None else lifetime),
                "sub": sub,
                "scope": scope,
                "practice_ids": " ".join(practice_ids),
            }
        )

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Sign any claims at all with the run's key."""
        return jwt.encode(dict(claims), self._key, algorithm="RS256", headers={"kid": KEY_ID})

    def keys(self) -> dict[str, Any]:
        """Return the public half of the run's key, as a set of keys (RFC 7517)."""
        key = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**key, "kid": KEY_ID, "use": "sig", "alg": "RS256"}]}

    def claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a token that API Gateway would accept; raises `jwt.InvalidTokenError` for any other."""
        claims: dict[str, Any] = jwt.decode(
            token,
            self._key.public_key(),
            algorithms=["RS256"],
            issuer=self.issuer,
            audience=self._audiences,
            options={"require": ["exp", "iss", "aud"]},
        )
        return claims


class Refused(Exception):
    """A sign-in is not as it should be; the message is OAuth's code for that."""


class SignIn:
    """Signs in whoever asks, at once: OAuth's code flow with PKCE (RFC 6749, 7636), for one public client."""

    def __init__(self, tokens: Tokens, client_id: str, practice_ids: Callable[[], Iterable[str]]) -> None:
        self._tokens = tokens
        self._client_id = client_id
        self._practice_ids = practice_ids
        # What each code was given for, until it is taken.
        self._given: dict[str, Mapping[str, str]] = {}

    def configuration(self) -> dict[str, Any]:
        """Return where everything is, as OpenID Connect's discovery has it."""
        issuer = self._tokens.issuer
        return {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/local/authorize",
            "token_endpoint": f"{issuer}/local/oauth/token",
            "jwks_uri": f"{issuer}/.well-known/jwks.json",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def authorize(self, asked: Mapping[str, str]) -> str:
        """Return the address that the browser goes back to, with a code or an error; raises `Refused`."""
        redirect_uri = f"{self._tokens.issuer}/"
        # To no other address goes so much as an error (RFC 6749, 4.1.2.1).
        if asked.get("redirect_uri") != redirect_uri or asked.get("client_id") != self._client_id:
            raise Refused("invalid_request")
        if asked.get("response_type") != "code":
            answer = {"error": "unsupported_response_type"}
        elif asked.get("code_challenge_method") != "S256" or not asked.get("code_challenge"):
            answer = {"error": "invalid_request"}
        else:
            answer = {"code": secrets.token_urlsafe(32)}
            self._given[answer["code"]] = asked
        # Whose answer it is (RFC 9207), and to which question.
        answer |= {"iss": self._tokens.issuer} | ({"state": asked["state"]} if "state" in asked else {})
        return f"{redirect_uri}?{urlencode(answer)}"

    def exchange(self, sent: Mapping[str, str]) -> dict[str, Any]:
        """Return the token for a code, which is good for one try; raises `Refused`."""
        if sent.get("grant_type") != "authorization_code":
            raise Refused("unsupported_grant_type")
        asked = self._given.pop(sent.get("code", ""), None)
        if asked is None or any(sent.get(name) != asked[name] for name in ("client_id", "redirect_uri")):
            raise Refused("invalid_grant")
        digest = hashlib.sha256(sent.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            raise Refused("invalid_grant")
        scope = asked.get("scope", "")
        return {
            "access_token": self._tokens.issue(STAFF, self._practice_ids(), scope),
            "token_type": "Bearer",
            "expires_in": self._tokens.lifetime,
            "scope": scope,
        }
