"""The evidence of an identity: what is needed of its credentials to judge it again when the rules have changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from softstate.auth.common_claims import CommonClaims
from softstate.auth.keyring import Key
from softstate.auth.presented import Certificate
from softstate.auth.token import Times


@dataclass(frozen=True, slots=True)
class Signed:
    """The evidence of a signed token: what is needed of it to judge it again, and the key that signed it.

    `ahead_s` is as that of a static token.
    """

    common: CommonClaims
    expires: float
    issued: float | None
    begins: float | None
    id: str | None
    key: Key
    ahead_s: float

    @property
    def times(self) -> Times:
        """The times of the token."""
        return Times(self.expires, self.issued, self.begins)

    def claims(self, subject: str) -> dict[str, Any]:
        """Return all claims of the token, of which the identity has the subject."""
        own = {"sub": subject, "exp": self.expires, "iat": self.issued, "nbf": self.begins, "jti": self.id}
        return self.common.claims() | {name: value for name, value in own.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Static:
    """The evidence of a static token: how much the monotonic clock was ahead of the wall clock when it came."""

    ahead_s: float


@dataclass(frozen=True, slots=True)
class Certified:
    """The evidence of a certificate; `ahead_s` is as that of a static token."""

    certificate: Certificate
    ahead_s: float
