"""Tokens and keys for tests: a key without a library, by HMAC, and tokens that say anything."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

import pytest

from softstate.auth.identity import Why
from softstate.auth.keyring import Key
from softstate.auth.token import read_token
from softstate.errors import Unauthenticated

SECRET = b"0123456789abcdef0123456789abcdef"
WALL = 1_795_900_000.0
NOW = 1_000.0


@dataclass(frozen=True)
class HmacKey:
    """A `Key` of HS256, by the standard library."""

    id: str | None = "k1"
    secret: bytes = SECRET
    algorithms: frozenset[str] = frozenset({"HS256"})
    checked: list[bytes] = field(default_factory=list, compare=False)

    @property
    def print(self) -> str:
        return sha256(self.secret).hexdigest()

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        self.checked.append(signed)
        return hmac.compare_digest(hmac.digest(self.secret, signed, "sha256"), signature)


def verifies(key: Key, token: str) -> bool:
    """Tell whether a key has signed a token."""
    read = read_token(token)
    return key.verifies(read.signed, read.signature)


def encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(text: str, secret: bytes = SECRET) -> str:
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"


def made(claims: str | bytes, header: str | bytes = '{"alg":"HS256","kid":"k1"}', secret: bytes = SECRET) -> str:
    """Sign a token that says just this."""
    parts = (part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in (header, claims))
    return signed(".".join(map(encoded, parts)), secret)


def claims(**more: object) -> dict[str, object]:
    """Return the claims of a good token; None takes one away."""
    usual = {"iss": "https://id", "aud": "softstate", "sub": "u1", "iat": WALL - 60, "exp": WALL + 600}
    return {name: value for name, value in {**usual, **more}.items() if value is not None}


def token(secret: bytes = SECRET, header: Mapping[str, object] | None = None, **more: object) -> str:
    """Sign a token with these claims beside, or instead of, the usual ones."""
    head = {"alg": "HS256", "kid": "k1", **(header or {})}
    return made(
        json.dumps(claims(**more)),
        json.dumps({name: value for name, value in head.items() if value is not None}),
        secret,
    )


class Refused:
    """Expects credentials to be refused, for the reason given, with a message that has a text in it."""

    def __init__(self, why: Why, says: str = "") -> None:
        self._why = why
        self._raises = pytest.raises(Unauthenticated, match=says or None)

    def __enter__(self) -> pytest.ExceptionInfo[Unauthenticated]:
        return self._raises.__enter__()

    def __exit__(self, *error: object) -> bool:
        done = self._raises.__exit__(*error)  # type: ignore[arg-type]
        info = self._raises.excinfo
        assert info is not None
        assert info.value.why == self._why, info.value.message
        return done
