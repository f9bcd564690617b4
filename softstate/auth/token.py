"""Tokens: the checks that come before and after the signature, in an order and with errors of our own.

Libraries for JSON Web Tokens take much that should not be taken, and raise much that nobody expects; so a token is
looked at here first (RFC 8725), and only one that is made as it should be is ever given to one. A token names neither
its key nor a place to fetch one: `kid` chooses among keys that the operator has configured, each for one algorithm.
"""

from __future__ import annotations

import json
import math
import re
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from softstate.auth.brought import brought, check_few, malformed, patterns_in
from softstate.auth.identity import Why, refused
from softstate.auth.rules import Allow, Who
from softstate.errors import Unauthenticated
from softstate.wire.messages import TOKEN_CHARS_MAX

STATIC_PREFIX = "sst_"
"""The beginning of a static token: 256 random bits that mean nothing by themselves."""

TYPES = ("jwt", "at+jwt")
"""Types of tokens that an issuer makes unless its configuration says otherwise; one without a type is taken too."""

CHECKS = {
    Why.MALFORMED: "it is made as it should be",
    Why.ISSUER: "its issuer is known",
    Why.UNKNOWN_KEY: "its key is known",
    Why.SIGNATURE: "its signature is good",
    Why.AUDIENCE: "it is for this audience",
    Why.BOUND: "it is not bound to a key of its holder",
    Why.EXPIRED: "it has not expired",
    Why.NOT_YET: "it is good already",
    Why.TOO_LONG: "it is not good for too long",
}
"""The checks of a token in their order, in words; the first that fails ends them. Some of the form come last."""

MAX_TOKEN_S = 86_400.0
"""Default for the longest time for which a token is good."""

SUBJECT_CHARS_MAX = 255

SHOWN_CHARS_MAX = 128
"""Characters of a text of a token that messages show: they are kept, and logged."""

HEADERS_KEPT = 256
"""Headers that are remembered: one key mostly signs tokens of one header."""

_SHAPE = re.compile(r"[A-Za-z0-9_-]{2,1400}\.[A-Za-z0-9_-]{2,8192}\.[A-Za-z0-9_-]{0,1400}")
_STATIC = re.compile(STATIC_PREFIX + r"[A-Za-z0-9_-]{43}")
_STANDARD = bytes.maketrans(b"-_", b"+/")
_LAST = {1: "", 2: "AQgw", 3: "AEIMQUYcgkosw048"}
"""The last characters of base64url that is not a multiple of four: others have bits that nothing decodes."""
_FORBIDDEN = ("crit", "jku", "x5u", "jwk", "b64", "zip", "enc")
_NUMBER_MAX = 1e12
"""Largest time in seconds: 30,000 years are a slip, and floats beyond are no times."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """The demands on tokens of one issuer.

    `types` holds what its tokens may have as `typ`, in lower case; if it is empty, that is one of `TYPES` or nothing.
    `ceiling` is what the issuer may grant at most, None for anything.
    """

    name: str
    audience: tuple[str, ...]
    types: tuple[str, ...] = ()
    leeway_s: float = 30.0
    max_token_s: float = MAX_TOKEN_S
    trust_grants: bool = True
    ceiling: tuple[str, ...] | None = None
    grants_claim: str = "softstate"
    groups_claim: str = "groups"


@dataclass(frozen=True, slots=True)
class Header:
    """The part of a token's header that counts."""

    type: str | None
    algorithm: str
    key: str | None


class Times(NamedTuple):
    """The times of a token, by its issuer's wall clock: its `exp`, and its `iat` and `nbf` if it has them."""

    expires: float
    issued: float | None
    begins: float | None


@dataclass(frozen=True, slots=True)
class Token:
    """A token that is made as it should be; nothing in it is known to be true before its signature is checked.

    `signed` is what `signature` is of.
    """

    header: Header
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes

    @property
    def issuer(self) -> str:
        """The issuer that it claims."""
        return str(self.claims["iss"])

    @property
    def subject(self) -> str:
        """The subject that it claims."""
        return str(self.claims["sub"])

    @property
    def times(self) -> Times:
        """Its times."""
        claims = self.claims
        return Times(claims["exp"], claims.get("iat"), claims.get("nbf"))

    @property
    def id(self) -> str | None:
        """Its ID (`jti`), None if it has none."""
        return self.claims.get("jti")


def is_static(token: str) -> bool:
    """Tell whether a token is a static one. Raises `Unauthenticated` if it only begins like one."""
    if not token.startswith(STATIC_PREFIX):
        return False
    if not _STATIC.fullmatch(token):
        raise malformed(f"a token that begins with {STATIC_PREFIX} has 43 more letters, digits, '-' or '_'")
    return True


def signed_part(token: str) -> str | None:
    """Return what the signature of a token is of, None if it is not made like a signed one.

    The ID of a token may have two dots as well, and some issuers' do; it does not begin with a header.
    """
    if not _SHAPE.fullmatch(token):
        return None
    try:
        _object(_bytes(token.partition(".")[0], "header"), "header")
    except Unauthenticated:
        return None
    return token.rpartition(".")[0]


def read_token(text: str) -> Token:
    """Take a signed token apart. Raises `Unauthenticated` for one that is not made as it should be."""
    if len(text) > TOKEN_CHARS_MAX:
        raise malformed(f"a token has at most {TOKEN_CHARS_MAX} characters, this one {len(text)}")
    if not _SHAPE.fullmatch(text):
        raise malformed("this is no token: one has three parts of letters, digits, '-' and '_', with dots between them")
    head, body, signature = text.split(".")
    header, seal = _header(head), _bytes(signature, "signature")
    return Token(header, _claims(_bytes(body, "claims")), text.rpartition(".")[0].encode(), seal)


@lru_cache(HEADERS_KEPT)
def _header(text: str) -> Header:
    header = _object(_bytes(text, "header"), "header")
    for name in _FORBIDDEN:
        if name in header:
            raise malformed(f"the token's header must not hold {name!r}")
    algorithm, key, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or not all(value is None or isinstance(value, str) for value in (key, kind)):
        raise malformed("'alg', 'kid' and 'typ' of the token's header must be text, and there must be an 'alg'")
    if algorithm.lower() == "none":
        raise refused(Why.SIGNATURE, "the token is not signed ('alg' is none)")
    return Header(kind, algorithm, key)


def check_claims(kind: str | None, claims: Mapping[str, Any], issuer: Issuer) -> None:
    """Check the type of a signed token, and all its claims, but for their times. Raises `Unauthenticated`."""
    bare = None if kind is None else kind.lower().removeprefix("application/")
    if bare not in (issuer.types or (None, *TYPES)):
        allowed = " or ".join(issuer.types or TYPES)
        raise malformed(f"the token is of type {shown(kind)}, this node accepts {allowed}")
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not all(isinstance(name, str) for name in audiences):
        raise malformed("the token must have an 'aud' that is text, or a list of texts")
    if not set(audiences) & set(issuer.audience):
        raise refused(
            Why.AUDIENCE,
            f"the token is for audience {', '.join(map(shown, audiences[:4])) or 'nobody'}, this node accepts"
            f" {', '.join(map(shown, issuer.audience))}",
        )
    if "cnf" in claims:
        raise refused(
            Why.BOUND, "the token is bound to a key of its holder ('cnf'), which this node does not check: ask for one"
            " that is not bound"
        )  # fmt: skip


def check_times(times: Times, issuer: Issuer, wall: float) -> float:
    """Check the times of a token; return for how long it is good, in seconds. Raises `Unauthenticated`."""
    expires, issued, begins = times
    begins = max(-math.inf if begins is None else begins, -math.inf if issued is None else issued)
    left = expires + issuer.leeway_s - wall
    if left <= 0:
        raise refused(
            Why.EXPIRED, f"the token expired {wall - expires:.0f} s ago by this node's clock: fetch a new one"
        )
    if begins > wall + issuer.leeway_s:
        raise refused(
            Why.NOT_YET,
            f"the token is good from {begins - wall:.0f} s from now on by this node's clock, which may be behind by"
            " that: fetch a new one, or set the clock",
        )
    whole = expires - (wall if issued is None else issued)
    if whole > issuer.max_token_s + (issuer.leeway_s if issued is None else 0.0):
        raise refused(
            Why.TOO_LONG,
            f"the token is good for {whole:.0f} s, this node accepts {issuer.max_token_s:.0f} s (max_token_s): ask for"
            " one that ends earlier",
        )
    return left


def own_grant(claims: Mapping[str, Any], issuer: Issuer) -> Allow | None:
    """Return what the claims of a token grant, None if nothing. Raises `Unauthenticated` if they are malformed."""
    if not issuer.trust_grants:
        return None
    read: list[str] = []
    write: list[str] = []
    claim = claims.get(issuer.grants_claim)
    if claim is not None:
        allowed = brought(claim, f"the token's {issuer.grants_claim!r}", None, where="the token itself")
        read += allowed.read if allowed is not None else ()
        write += allowed.write if allowed is not None else ()
    details = claims.get("authorization_details", [])
    if not isinstance(details, list) or not all(isinstance(detail, dict) for detail in details):
        raise malformed("the token's 'authorization_details' must be a list of objects")
    for detail in details:
        if detail.get("type") == "softstate":
            actions = detail.get("actions")
            if not isinstance(actions, list) or not all(action in ("read", "write") for action in actions):
                raise malformed("'actions' of the token's 'authorization_details' must be a list of 'read' and 'write'")
            topics = patterns_in(detail.get("topics", []), "'topics' of the token's 'authorization_details'")
            read += topics if "read" in actions else []
            write += topics if "write" in actions else []
    check_few(read, write, issuer.ceiling, "the token")
    return Allow(Who(), tuple(read), tuple(write), where="the token itself") if read or write else None


def groups_of(claims: Mapping[str, Any], issuer: Issuer) -> frozenset[str]:
    """Return the groups that a token names: a list of texts, or one."""
    claim = claims.get(issuer.groups_claim)
    return frozenset(text for text in (claim if isinstance(claim, list) else [claim]) if isinstance(text, str))


def scopes_of(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the scopes of a token: one text with blanks between them, or a list of texts."""
    claim = claims.get("scope")
    if isinstance(claim, str):
        return frozenset(claim.split())
    return frozenset(text for text in claim if isinstance(text, str)) if isinstance(claim, list) else frozenset()


def _claims(payload: bytes) -> dict[str, Any]:
    claims = _object(payload, "claims")
    for name in ("iss", "sub"):
        if not _is_text(claims.get(name)):
            raise malformed(f"the token's {name!r} must be text of 1 to {SUBJECT_CHARS_MAX} printable characters")
    for name in ("exp", "nbf", "iat"):
        if name in claims and not _is_time(claims[name]):
            raise malformed(f"the token's {name!r} must be a number of seconds since 1970")
    if "exp" not in claims:
        raise malformed("the token must have an 'exp': it is not to be good without end")
    if "jti" in claims and not _is_text(claims["jti"]):
        raise malformed(f"the token's 'jti' must be text of 1 to {SUBJECT_CHARS_MAX} printable characters")
    return claims


def _bytes(text: str, what: str) -> bytes:
    """Decode base64url. Only the one spelling of the same bytes is taken: a token is known by its digest."""
    left = len(text) % 4
    if left and text[-1] not in _LAST[left]:
        raise malformed(f"the token's {what} is not base64url")
    return a2b_base64(text.encode().translate(_STANDARD) + b"=" * (-left % 4))


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
        # JSON that is written again as it was had no name twice, of which one would be lost here. Most issuers' is.
        sure = msgspec.json.encode(found) == data
    except (ValueError, OverflowError, RecursionError):
        sure = False
    if not sure:
        found = _strictly(data)
    if not isinstance(found, dict):
        raise malformed(f"the token's {what} must be one JSON object without repeated names")
    return found


def _strictly(data: bytes) -> object:
    """Decode JSON in which no object has a name twice, and every number fits into a float; None if it is not such."""
    try:
        return _JSON.decode(data.decode())
    except (ValueError, RecursionError):
        return None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _constant(_text: str) -> float:
    raise ValueError


def _finite(text: str) -> float:
    found = float(text)
    if math.isinf(found):
        raise ValueError
    return found


_JSON = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_finite)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= SUBJECT_CHARS_MAX and value.isprintable()


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_NUMBER_MAX <= value <= _NUMBER_MAX


def shown(value: str | None) -> str:
    """Return a text that anybody may have written, for a message: all of it if it is as long as usual, not more."""
    return "none" if value is None else ascii(value)[:SHOWN_CHARS_MAX]
