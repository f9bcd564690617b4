"""Claims that many tokens have in common: all but the subject, the times and the ID of each.

What they give is found once under the same rules, for all of these tokens, and they are kept once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, final

import msgspec

from softstate.auth.identity import Why, refused
from softstate.auth.remembering import remember
from softstate.auth.rules import Rights
from softstate.auth.token import Issuer, Token
from softstate.errors import Unauthenticated

COMMON_KEPT = 1_024
"""Common claims that the next token is compared with; the oldest are forgotten first. 6 KiB each at most."""

INDIVIDUAL = ("sub", "iat", "exp", "nbf", "jti")
"""Claims that each token has for itself."""

_ASKED = frozenset({f"claim:{name}" for name in INDIVIDUAL})
_JSON = json.JSONEncoder(separators=(",", ":"))


@final
class CommonClaims:
    """The type and the claims that tokens have in common. `rights` are what `find` was told last, None for nothing."""

    __slots__ = ("_found_in", "_rights", "_text", "type")

    def __init__(self, kind: str | None, text: bytes) -> None:
        self.type = kind
        self._text = text
        self._rights = Rights()
        self._found_in = 0

    def claims(self) -> dict[str, Any]:
        """Return the claims, in an object of one's own. Raises `Unauthenticated` if the stack is too deep for them."""
        try:
            found: dict[str, Any] = json.loads(self._text)
        except RecursionError:
            raise _too_deep() from None
        return found

    def rights(self, generation: int) -> Rights | None:
        """Return the rights that were found under the rules since a generation, None if none were."""
        return self._rights if self._found_in == generation else None

    def found(self, rights: Rights, issuer: Issuer, generation: int) -> None:
        """Keep rights that were found, if it is sure that all these tokens have them."""
        asked = {issuer.groups_claim, issuer.grants_claim}
        self._rights = Rights() if rights.values & _ASKED or asked & {*INDIVIDUAL} else rights
        self._found_in = generation


@final
class CommonClaimsTable:
    """Finds the common claims of a token: one object for all of them that are equal, as far as they are remembered."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str | None, bytes], CommonClaims] = {}

    def of(self, token: Token) -> CommonClaims:
        """Return the common claims of a token. Takes 2 us. Raises `Unauthenticated` for some that are nested deeply."""
        try:
            key = token.header.type, _written(common_part(token.claims))
        except RecursionError:
            raise _too_deep() from None
        found = self._kept.pop(key, None) or CommonClaims(*key)
        remember(self._kept, key, found, COMMON_KEPT)
        return found


def _written(claims: dict[str, Any]) -> bytes:
    """Write claims so that they can be read again as they are: half a surrogate pair, as an escape sequence."""
    try:
        return msgspec.json.encode(claims)
    except (ValueError, OverflowError):
        return _JSON.encode(claims).encode()


def _too_deep() -> Unauthenticated:
    return refused(Why.MALFORMED, "the token's claims are nested too deeply")


def common_part(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims that are not a token's own."""
    return {name: value for name, value in claims.items() if name not in INDIVIDUAL}
