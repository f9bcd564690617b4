"""The certificate of one name: what the client may claim to know of it, and what is in doubt.

Two things describe a name at any time. Its *evidence*: up to which revision everything is known, and since when. Its
*doubt*: what may be missing, and what it takes to bring it. `AFTER` says how each event changes them; `LEGAL` lists the
combinations that can occur, and a test finds no others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto


class Evidence(Enum):
    """The evidence that the client has for a name."""

    NONE = auto()
    """No complete answer yet, or none since a reset: infinite age."""
    REVISION = auto()
    """Only what is too old to be applied: the history since was compacted. It guards tombstones; infinite age."""
    COMPLETE = auto()
    """Everything up to a revision, and the age of that knowledge."""


class Doubt(Enum):
    """The values that may be missing of a name, and their source."""

    NONE = auto()
    """Nothing is known to be missing: matching renewals certify."""
    CHANGE = auto()
    """A change may be missing that no renewal brings (`notify{unknown}`): only a complete answer certifies."""
    HISTORY = auto()
    """The history since the revision was compacted: only a complete answer certifies, and it must list from 0."""
    LISTING = auto()
    """A resumed session has replayed what was missing, so renewals certify; the next request still lists from 0."""


class CertificateEvent(Enum):
    """Events of a certificate."""

    ANSWERED = auto()
    """A complete answer to a request that was sent after the last doubt."""
    RENEWED = auto()
    """A matching renewal; it counts only where there is no doubt, or a listing is due."""
    DOUBTED = auto()
    """The node says that a change may have been missed."""
    COMPACTED = auto()
    """The node no longer has the history between."""
    RESUMED = auto()
    """A session was resumed: its replay begins at the lowest certified revision, so it brings what was in doubt."""
    RESET = auto()
    """The store's history changed."""


AFTER: dict[CertificateEvent, tuple[dict[Evidence, Evidence], dict[Doubt, Doubt]]] = {
    CertificateEvent.ANSWERED: (dict.fromkeys(Evidence, Evidence.COMPLETE), dict.fromkeys(Doubt, Doubt.NONE)),
    CertificateEvent.RENEWED: (
        dict.fromkeys(Evidence, Evidence.COMPLETE),
        {Doubt.NONE: Doubt.NONE, Doubt.LISTING: Doubt.LISTING},
    ),
    CertificateEvent.DOUBTED: (
        {evidence: evidence for evidence in Evidence},
        {
            Doubt.NONE: Doubt.CHANGE,
            Doubt.CHANGE: Doubt.CHANGE,
            Doubt.HISTORY: Doubt.HISTORY,
            Doubt.LISTING: Doubt.HISTORY,
        },
    ),
    CertificateEvent.COMPACTED: (
        {Evidence.NONE: Evidence.NONE, Evidence.REVISION: Evidence.REVISION, Evidence.COMPLETE: Evidence.REVISION},
        dict.fromkeys(Doubt, Doubt.HISTORY),
    ),
    CertificateEvent.RESUMED: (
        {evidence: evidence for evidence in Evidence},
        {Doubt.NONE: Doubt.NONE, Doubt.CHANGE: Doubt.NONE, Doubt.HISTORY: Doubt.LISTING, Doubt.LISTING: Doubt.LISTING},
    ),
    CertificateEvent.RESET: (dict.fromkeys(Evidence, Evidence.NONE), dict.fromkeys(Doubt, Doubt.NONE)),
}
"""The effect of each event on evidence and doubt. A doubt that is not listed keeps it from counting."""

LEGAL: dict[Evidence, tuple[Doubt, ...]] = {
    Evidence.NONE: (Doubt.NONE, Doubt.CHANGE, Doubt.HISTORY, Doubt.LISTING),
    Evidence.REVISION: (Doubt.HISTORY, Doubt.LISTING),
    Evidence.COMPLETE: (Doubt.NONE, Doubt.CHANGE, Doubt.HISTORY, Doubt.LISTING),
}
"""The combinations that occur. A revision without an age is what a compaction leaves, and nothing else."""


@dataclass(slots=True)
class Certificate:
    """One name that the application wants, and what is known of it."""

    name: str
    added: int
    """Serial at which it came into the set: only requests sent later can certify it."""
    revision: int | None = None
    """Every change up to here that it covers is known, or replaced by a newer one. None: no evidence."""
    asof: float = -math.inf
    """Seconds: when the request was sent (less its lag) from which the age counts. -inf: infinite age."""
    lease: int = 0
    """The lease under which a complete answer, or a resumption, put it: matching renewals certify only those."""
    vouched: int = 0
    """The lease under which a complete answer or a matching renewal certified it last: beats certify only those."""
    blocked: int = 0
    """Serial of the last doubt: requests sent before it certify nothing."""
    doubt: Doubt = Doubt.NONE

    @property
    def evidence(self) -> Evidence:
        """The evidence that the client has for it."""
        if self.revision is None:
            return Evidence.NONE
        return Evidence.REVISION if self.asof == -math.inf else Evidence.COMPLETE

    @property
    def lists(self) -> bool:
        """Whether the next request must ask from 0; `revision` still says what is too old to be applied."""
        return self.doubt in (Doubt.HISTORY, Doubt.LISTING)

    @property
    def whole(self) -> bool:
        """Whether the next answer brings all there is, and not only what changed."""
        return self.revision is None or self.lists

    def answered(self, serial: int, lease: int, revision: int, asof: float) -> bool:
        """Take a complete answer to request `serial`, which joins `lease` unless that is 0; tell whether it certifies.

        See P-KNOW-3.
        """
        if self.added >= serial:
            return False
        if lease:
            self.lease = lease
        if self.blocked >= serial:
            return False
        self._become(CertificateEvent.ANSWERED)
        self._certify(revision, asof)
        if lease:
            self.vouched = lease
        return True

    def renewed(self, serial: int, lease: int, revision: int, asof: float) -> None:
        """Take the matching answer to renewal `serial` of `lease`, if it certifies this name (P-KNOW-4)."""
        renewable = AFTER[CertificateEvent.RENEWED][1]
        if self.lease == lease and self.added < serial and self.blocked < serial and self.doubt in renewable:
            self._certify(revision, asof)
            self.vouched = lease

    def beaten(self, lease: int, revision: int, asof: float) -> bool:
        """Take a beat under `lease`, if it certifies this name (P-BEAT-5); tell whether `revision` is news of it.

        A beat runs this for each name, so it compares by itself: 10,000 names take 1.3 ms, with `max` 2.5, with
        `_certify` 4.0.
        """
        if self.vouched != lease:
            return False
        if asof > self.asof:  # noqa: PLR1730 - without a call
            self.asof = asof
        if self.revision is not None and revision <= self.revision:
            return False
        self.revision = revision
        return True

    def doubted(self, serial: int) -> None:
        """Note, when `serial` was the last request sent, that a change may be missing (P-KNOW-7)."""
        self.blocked, self.vouched = serial, 0
        self._become(CertificateEvent.DOUBTED)

    def compacted(self, serial: int) -> None:
        """Note, when `serial` was the last request sent, that the history since `revision` is gone."""
        self.asof, self.blocked, self.vouched = -math.inf, serial, 0
        self._become(CertificateEvent.COMPACTED)

    def resumed(self, serial: int, lease: int) -> None:
        """Join `lease`: request `serial` resumed a session, and the replay follows."""
        self.lease, self.vouched = lease, 0
        self.blocked = max(self.blocked, serial - 1)
        self._become(CertificateEvent.RESUMED)

    def reset(self) -> None:
        """Begin in another history."""
        self.revision, self.asof, self.vouched = None, -math.inf, 0
        self._become(CertificateEvent.RESET)

    def _become(self, event: CertificateEvent) -> None:
        self.doubt = AFTER[event][1][self.doubt]

    def _certify(self, revision: int, asof: float) -> None:
        # Only forward (P-KNOW-5).
        self.revision = revision if self.revision is None else max(self.revision, revision)
        self.asof = max(self.asof, asof)
