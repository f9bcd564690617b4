"""Identities: of a peer, with what it may do, and until when.

Nothing here reads a clock: `now` is the node's monotonic clock and `wall` its wall clock, both in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import nsmallest
from typing import Literal

from softstate.auth.asked import AllowedNames
from softstate.auth.digests import digest_of
from softstate.auth.patterns import SUBJECT, Pattern, least, pattern_of
from softstate.errors import Denied, Unauthenticated
from softstate.names import ALL, SPELT, covered, covers, is_prefix, prefixes_of

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
    UNTRUSTED = "untrusted"
    UNACCEPTED = "unaccepted"


def refused(why: Why, message: str) -> Unauthenticated:
    """Return the error of credentials that a check refused; the message says what to do, and never holds a secret."""
    return Unauthenticated(message, why=why.value)


@dataclass(frozen=True, slots=True)
class Reach:
    """The topics that grants reach for one action: `topics` and `prefixes` as they are, `wild` patterns with a ``*``.

    `own` are names in which the subject stands, each cut where it does: many subjects have one reach together.
    """

    topics: tuple[str, ...] | frozenset[str] = ()
    prefixes: tuple[str, ...] | frozenset[str] = ()
    wild: tuple[Pattern, ...] = ()
    own: tuple[tuple[str, ...], ...] = ()

    def covers(self, name: str, subject: str = "") -> bool:
        """Tell whether one pattern covers all that a valid topic or prefix stands for."""
        if name in self.topics:
            return True
        prefixes = self.prefixes
        if isinstance(prefixes, tuple):
            if name.startswith(prefixes) or (ALL in prefixes and not name.startswith(SPELT)):
                return True
        elif covered(prefixes, name):
            return True
        for parts in self.own:
            if covers(subject.join(parts), name):
                return True
        if self.wild:
            pattern = pattern_of(name)
            return any(wild.covers(pattern) for wild in self.wild)
        return False

    def names(self, subject: str = "") -> set[str]:
        """Return every name of this reach."""
        return {*self.topics, *self.prefixes, *map(subject.join, self.own)}


def reach_of(patterns: Iterable[Pattern]) -> Reach:
    """Return what patterns reach together. In one with a ``*`` a subject must stand as it is, and not as `SUBJECT`."""
    needed = least(patterns)
    names = [str(pattern) for pattern in needed if pattern.is_name]
    plain = [name for name in names if SUBJECT not in name]
    topics, prefixes = ([name for name in plain if is_prefix(name) is wanted] for wanted in (False, True))
    return Reach(
        tuple(topics) if len(topics) <= LINEAR_MAX else frozenset(topics),
        tuple(prefixes) if len(prefixes) <= LINEAR_MAX else frozenset(prefixes),
        tuple(pattern for pattern in needed if not pattern.is_name),
        tuple(tuple(name.split(SUBJECT)) for name in names if SUBJECT in name),
    )


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights of an identity; `subject` stands where its patterns name one. Many grants share what they reach.

    An administrator may read and write everything, what is reserved included, and nobody else what is reserved. `asked`
    are names that a callout allows beside; neither `patterns` nor `narrow` tells them.
    """

    admin: bool = False
    read: Reach = Reach()
    write: Reach = Reach()
    subject: str = ""
    asked: AllowedNames | None = None

    def may_read(self, name: str) -> bool:
        """Tell whether a valid topic or prefix may be read: one pattern must cover all of it."""
        if self.admin:
            return True
        if name.startswith(SPELT) and is_reserved(name):
            return False
        return self.read.covers(name, self.subject) or (self.asked is not None and self.asked.covers("read", name))

    def unreadable(self, names: Iterable[str]) -> list[str]:
        """Return those of names that may not be read, each judged as by `may_read`. Takes 0.2 us a name."""
        if self.admin:
            return []
        topics, prefixes, may_read = self.read.topics, self.read.prefixes, self.may_read
        if not isinstance(prefixes, tuple):
            return [name for name in names if not may_read(name)]
        # Most names are plain, and below a prefix of the grant as it is written.
        return [
            name
            for name in names
            if (name[:1] == SPELT or not (name.startswith(prefixes) or name in topics)) and not may_read(name)
        ]

    def may_write(self, topic: str) -> bool:
        """Tell whether a valid topic may be published and deleted."""
        if self.admin:
            return True
        if topic.startswith(SPELT) and is_reserved(topic):
            return False
        return self.write.covers(topic, self.subject) or (self.asked is not None and self.asked.covers("write", topic))

    def patterns(self, action: Literal["read", "write"]) -> tuple[Pattern, ...]:
        """Return every pattern of what may be read or written, in order of their text."""
        reach = self.read if action == "read" else self.write
        return tuple(sorted((*map(pattern_of, reach.names(self.subject)), *reach.wild), key=str))

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
        names = {
            name
            for name in self.read.names(self.subject)
            if name.startswith(inside) and (inside or not name.startswith(SPELT))
        }
        met = {str(pattern) for wild in self.read.wild if (pattern := wild.within(asked)) and pattern.is_name}
        # Names of a grant do not cover each other; those that a pattern has become may be covered by any.
        names |= {name for name in met if not any(wider in names | met for wider in prefixes_of(name) if wider != name)}
        return tuple(nsmallest(NARROW_MAX, (name for name in names if not is_reserved(name))))


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
    _digest: str = field(default="", init=False, repr=False, compare=False)  # not taken along by `dataclasses.replace`

    def judged(self, grant: Grant, until: float, generation: int) -> Identity:
        """Return this identity as rules of another generation have it. A third of the time of `dataclasses.replace`."""
        judged = Identity(
            self.issuer,
            self.subject,
            grant,
            until,
            self.key,
            self.issued_at,
            self.token,
            self.token_id,
            generation,
            self.evidence,
        )
        object.__setattr__(judged, "_digest", self._digest)
        return judged

    @property
    def principal(self) -> tuple[str, str]:
        """Issuer and subject, by whichever token: a session belongs to one principal."""
        return (self.issuer, self.subject)

    @property
    def digest(self) -> str:
        """The digest of the principal. Worked out once: a session asks for it several times."""
        if not self._digest:
            object.__setattr__(self, "_digest", digest_of(self.issuer, self.subject))
        return self._digest

    @property
    def is_anonymous(self) -> bool:
        """Tell whether no credentials were presented."""
        return not self.issuer and not self.subject


def not_to_publish(topic: str, identity: Identity) -> Denied:
    """Return the error of a publish that the grant of an identity does not cover."""
    why = "no token was presented" if identity.is_anonymous else "these credentials do not allow it"
    return Denied(f"you may not publish {topic!r}: {why}")


def is_reserved(name: str) -> bool:
    """Tell whether only an administrator may read or write a name."""
    return name.startswith(RESERVED) and name[len(RESERVED) : len(RESERVED) + 1] in ("", "/")
