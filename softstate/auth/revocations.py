"""Revocations: credentials that are over before their time. Each is a topic, in force while it has a value.

So all nodes hear of one by their feeds, in order with the data: a node that can hear no revocation hears no data. The
topic names the subject, the token or the key by a digest, which tells nobody who it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias, cast, get_args

from softstate.auth.digests import DIGEST_CHARS, digest_of
from softstate.auth.identity import RESERVED, Identity, Why, refused
from softstate.auth.token import signed_part
from softstate.errors import Unauthenticated
from softstate.model import Record
from softstate.wire.value import decode_value, is_value

REVOKED = f"{RESERVED}/revoked/"
"""The prefix of all revocations."""

REVOCATIONS_MAX = 100_000
"""Revocations of one store: a node refuses to publish one more. 300 bytes each in the memory of every node."""

KEYS_KEPT = 256
"""Digests of keys that are remembered: few keys sign the tokens of thousands."""

REASON_CHARS_MAX = 256
"""Longest reason of a revocation."""

Kind: TypeAlias = Literal["sub", "token", "key"]

KINDS: tuple[Kind, ...] = get_args(Kind)

WHAT: dict[Kind, str] = {
    "sub": "all credentials of its subject were",
    "token": "it was",
    "key": "the key that signed it was",
}


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revocation of all credentials of a subject, of one token, or of all that a key has signed.

    Of a subject's, those that were issued from `before` on are good: it may sign in again. Both `before` and `until`
    are seconds since 1970; from `until` on no token that is revoked can still be alive, so that this can be forgotten.
    `version` is that of its topic.
    """

    topic: str
    before: float = math.inf
    until: float = math.inf
    reason: str = ""
    version: int = 0

    @property
    def kind(self) -> Kind:
        """The kind of what is revoked."""
        return cast("Kind", self.topic.removeprefix(REVOKED).partition("/")[0])

    @property
    def digest(self) -> str:
        """The digest of the subject, the token or the key."""
        return self.topic.rpartition("/")[2]

    def over(self, wall: float, longest_s: float) -> bool:
        """Tell whether this can be forgotten, if no token is good for more than `longest_s` seconds.

        One with a `before` stays for that long at least, even if it says otherwise.
        """
        return wall > self.until and (math.isinf(self.before) or wall > self.before + longest_s)

    def error(self, what: str | None = None) -> Unauthenticated:
        """Return the error of credentials that are revoked by this; `what` names them, if they are no token."""
        because = f" ({self.reason})" if self.reason else ""
        if what is not None:
            return refused(Why.REVOKED, f"{what} was revoked{because}: get another")
        text = f"the token is not good any more: {WHAT[self.kind]} revoked{because}: get another"
        return refused(Why.REVOKED, text)

    def value(self) -> dict[str, Any]:
        """Return the value that its topic has."""
        told: dict[str, Any] = {}
        for name in ("before", "until"):
            if math.isfinite(seconds := getattr(self, name)):
                told[name] = seconds
        return told | ({"reason": self.reason} if self.reason else {})

    def revokes(self, identity: Identity) -> bool:
        """Tell whether credentials are revoked by this."""
        match self.kind:
            case "sub":
                return bool(identity.issuer) and identity.issued_at < self.before and identity.digest == self.digest
            case "token":
                return self.digest in (identity.token, identity.token_id)
            case "key":
                return bool(identity.issuer) and _of_key(identity) == self.digest


def subject_topic(issuer: str, subject: str) -> str:
    """Return the topic that revokes all credentials of a subject. Static tokens are of the issuer ``static``."""
    return f"{REVOKED}sub/{digest_of(issuer, subject)}"


def token_topic(token: str) -> str:
    """Return the topic that revokes a token, given whole or by its ID (`jti`).

    Of a signed one its signature does not count: anybody can make another one of an ECDSA signature that is as good.
    """
    return f"{REVOKED}token/{digest_of(signed_part(token) or token)}"


def key_topic(issuer: str, key: str) -> str:
    """Return the topic that revokes all that a key of an issuer has signed; `key` is its ID, empty if it has none."""
    return f"{REVOKED}key/{digest_of(issuer, key)}"


def revocation_of(record: Record) -> Revocation | None:
    """Return what a record below `REVOKED` revokes; None for a tombstone, or a topic that can revoke nothing.

    A value that is not made as it should be revokes all that its topic names, until it is deleted.
    """
    if record.deleted or _parts(record.topic) is None:
        return None
    value = decode_value(record.cbor) if record.cbor is not None and is_value(record.cbor) else None
    told = value if isinstance(value, dict) else {}
    reason = told.get("reason")
    return Revocation(
        record.topic,
        _seconds(told.get("before")),
        _seconds(told.get("until")),
        reason[:REASON_CHARS_MAX] if isinstance(reason, str) else "",
        record.version,
    )


class Revocations:
    """All revocations that a node knows, or `some`: of two of one topic, the one that revokes more."""

    def __init__(self, some: Iterable[Revocation] = ()) -> None:
        self._by_kind: dict[Kind, dict[str, Revocation]] = {kind: {} for kind in KINDS}
        for revocation in some:
            known = self._by_kind[revocation.kind]
            if revocation.before >= known.setdefault(revocation.digest, revocation).before:
                known[revocation.digest] = revocation

    def __len__(self) -> int:
        """Return how many are in force."""
        return sum(map(len, self._by_kind.values()))

    def __iter__(self) -> Iterator[Revocation]:
        """Go through those that are in force."""
        for each in self._by_kind.values():
            yield from each.values()

    def note(self, record: Record) -> Revocation | None:
        """Take a change of a topic below `REVOKED`; return what is revoked by it, if it is news."""
        parts = _parts(record.topic)
        if parts is None:
            return None
        kind, digest = parts
        known = self._by_kind[kind]
        if digest in known and known[digest].version >= record.version:
            return None
        revocation = revocation_of(record)
        if revocation is None:
            known.pop(digest, None)
        else:
            known[digest] = revocation
        return revocation

    def of(self, identity: Identity) -> Revocation | None:
        """Return a revocation of credentials, None if there is none. What is anonymous cannot be revoked."""
        if not identity.issuer:
            return None
        subjects, tokens, keys = self._by_kind["sub"], self._by_kind["token"], self._by_kind["key"]
        found = tokens.get(identity.token) or tokens.get(identity.token_id) if tokens else None
        if found is None and keys:
            found = keys.get(_of_key(identity))
        if found is None and subjects:
            found = subjects.get(identity.digest)
            if found is not None and identity.issued_at >= found.before:
                return None
        return found

    def __contains__(self, topic: str) -> bool:
        """Tell whether the revocation that a topic is of is in force."""
        parts = _parts(topic)
        return parts is not None and parts[1] in self._by_kind[parts[0]]


def _parts(topic: str) -> tuple[Kind, str] | None:
    kind, _, digest = topic.removeprefix(REVOKED).partition("/")
    if kind not in KINDS or len(digest) != DIGEST_CHARS or "/" in digest:
        return None
    return kind, digest


_key_digest = lru_cache(KEYS_KEPT)(digest_of)


def _of_key(identity: Identity) -> str:
    return _key_digest(identity.issuer, identity.key)


def _seconds(value: object) -> float:
    """Return a time, infinity for what is none: then it is revoked for good."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return math.inf
    return float(value)
