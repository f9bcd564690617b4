"""Identities: of a peer, with what it may do, and until when.

Nothing here reads a clock: `now` is the node's monotonic clock and `wall` its wall clock, both in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import nsmallest

from softstate.auth.digests import digest_of
from softstate.auth.patterns import Pattern, least, pattern_of
from softstate.errors import Denied, Unauthenticated
from softstate.names import ALL, covered, prefixes_of

NARROW_MAX = 16
"""Most names that `Grant.narrow` returns."""

RESERVED = "$softstate"
"""The first segment of names that only an administrator may read or write."""

LINEAR_MAX = 8
"""Names of a grant up to which a tuple holds them, which takes less memory than a set."""


WILD_PER_NAME = 8
"""Patterns with a ``*`` that a name is compared with in the time that it takes to enter it into a lease: 4 us."""


class Why(StrEnum):
    """The check that refused credentials: `why` of `Unauthenticated`."""

    MISSING = "missing"
    MALFORMED = "malformed"
    SIGNATURE = "signature"
    UNKNOWN_KEY = "unknown_key"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EXPIRED = "expired"
    NOT_YET = "not_yet"
    REVOKED = "revoked"
    TOO_LONG = "too_long"
    BOUND = "bound"
    SUBJECT_CHANGED = "subject_changed"


def refused(why: Why, message: str) -> Unauthenticated:
    """Return the error of credentials that a check refused; the message says what to do, and never holds a secret."""
    return Unauthenticated(message, why=why.value)


@dataclass(frozen=True, slots=True)
class Reach:
    """The topics that a grant reaches for one action: `names` as they are, and `wild` patterns with a ``*``."""

    names: tuple[str, ...] | frozenset[str] = ()
    wild: tuple[Pattern, ...] = ()

    def covers(self, name: str) -> bool:
        """Tell whether one pattern covers all that a valid topic or prefix stands for."""
        if self.names and covered(self.names, name):
            return True
        if self.wild:
            pattern = pattern_of(name)
            return any(wild.covers(pattern) for wild in self.wild)
        return False

    def patterns(self) -> tuple[Pattern, ...]:
        """Return every pattern of this reach, in order of their text."""
        return tuple(sorted((*map(pattern_of, self.names), *self.wild), key=str))


def reach_of(patterns: Iterable[Pattern]) -> Reach:
    """Return what patterns reach together."""
    needed = least(patterns)
    names = tuple(str(pattern) for pattern in needed if pattern.is_name)
    wild = tuple(pattern for pattern in needed if not pattern.is_name)
    return Reach(names if len(names) <= LINEAR_MAX else frozenset(names), wild)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Grant:
    """The rights of an identity. Equal grants are mostly one object, so that many sessions share it.

    An administrator may read and write everything, what is reserved included, and nobody else what is reserved.
    """

    admin: bool = False
    read: Reach = Reach()
    write: Reach = Reach()

    def may_read(self, name: str) -> bool:
        """Tell whether a valid topic or prefix may be read: one pattern must cover all of it."""
        return self.admin or (not _is_reserved(name) and self.read.covers(name))

    def may_write(self, topic: str) -> bool:
        """Tell whether a valid topic may be published and deleted."""
        return self.admin or (not _is_reserved(topic) and self.write.covers(topic))

    @property
    def weight(self) -> int:
        """How many names could be looked at for other reasons while one is judged: each ``*`` costs."""
        return 1 + len(self.read.wild) // WILD_PER_NAME

    def narrow(self, prefix: str) -> tuple[str, ...]:
        """Return the names that may be read below a prefix that is not covered whole, `NARROW_MAX` at most, in order.

        Patterns with a ``*`` have no name, and are left out.
        """
        if self.admin or not prefix.endswith("/"):
            return ()
        asked = pattern_of(prefix)
        inside = "" if prefix == ALL else prefix
        names = {name for name in self.read.names if name.startswith(inside) and (inside or not name.startswith("$"))}
        met = {str(pattern) for wild in self.read.wild if (pattern := wild.within(asked)) and pattern.is_name}
        # Names of a grant do not cover each other; those that a pattern has become may be covered by any.
        names |= {name for name in met if not any(wider in names | met for wider in prefixes_of(name) if wider != name)}
        return tuple(nsmallest(NARROW_MAX, (name for name in names if not _is_reserved(name))))


NOTHING = Grant()
"""The grant of what no rule allows anything."""

EVERYTHING = Grant(admin=True)
"""The grant of an administrator."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A peer, by the credentials that it presented.

    `issuer` and `subject` are the principal; both are empty for a peer that presented nothing. `until` is when the
    credentials end, by the node's monotonic clock (`math.inf`: never). `key` is the ID of the key that signed the
    token, `issued_at` when it says that it was made, by its issuer's wall clock (0 if it does not). `token` and
    `token_id` are digests of the token and of the ID that it names, by which it may be revoked
    (`softstate.auth.revocations`). `generation` counts the changes of the rules that it was judged by. `evidence` is
    what the authority that made this identity needs to judge it again, and means nothing to others.
    """

    issuer: str
    subject: str
    grant: Grant
    until: float = math.inf
    key: str = ""
    issued_at: float = 0.0
    token: str = ""
    token_id: str = ""
    generation: int = 0
    evidence: object = field(default=None, repr=False, compare=False)

    @property
    def principal(self) -> tuple[str, str]:
        """Issuer and subject, by whichever token: a session belongs to one principal."""
        return (self.issuer, self.subject)

    @property
    def digest(self) -> str:
        """The digest of the principal."""
        return digest_of(self.issuer, self.subject)

    @property
    def is_anonymous(self) -> bool:
        """Tell whether no credentials were presented."""
        return not self.issuer and not self.subject


def not_to_publish(topic: str, identity: Identity) -> Denied:
    """Return the error of a publish that the grant of an identity does not cover."""
    why = "no token was presented" if identity.is_anonymous else "these credentials do not allow it"
    return Denied(f"you may not publish {topic!r}: {why}")


def _is_reserved(name: str) -> bool:
    return name.startswith(RESERVED) and name[len(RESERVED) : len(RESERVED) + 1] in ("", "/")
