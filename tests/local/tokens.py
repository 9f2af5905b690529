"""The run's own identity provider: tokens signed with a key that lives as long as the run.

Uses the standard library and PyJWT, nothing of the product.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

TWELVE_HOURS = 12 * 3600


class Tokens:
    """Issues access tokens as the practice's identity provider would, and checks them as API Gateway does."""

    def __init__(self, issuer: str, audiences: list[str]) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._issuer = issuer
        self._audiences = audiences

    def issue(self, sub: str, practice_ids: Iterable[str], scope: str, lifetime: int = TWELVE_HOURS) -> str:
        """Return a token for `sub`; scopes are space-separated, the lifetime is in seconds."""
        now = int(time.time())
        return self.sign(
            {
                "iss": self._issuer,
                "aud": self._audiences[0],
                "iat": now,
                "exp": now + lifetime,
                "sub": sub,
                "scope": scope,
                "practice_ids": " ".join(practice_ids),
            }
        )

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Sign any claims at all with the run's key."""
        return jwt.encode(dict(claims), self._key, algorithm="RS256")

    def claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a token that API Gateway would accept; raises `jwt.InvalidTokenError` for any other."""
        claims: dict[str, Any] = jwt.decode(
            token,
            self._key.public_key(),
            algorithms=["RS256"],
            issuer=self._issuer,
            audience=self._audiences,
            options={"require": ["exp", "iss", "aud"]},
        )
        return claims
