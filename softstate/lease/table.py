"""The lease table: which sessions this node has promised to push to, and for which names.

One lease a session, not one a subscription: a renewal writes one deadline and thereby refreshes every name, and one
digest tells whether both sides hold the same set (the idea of RSVP's summary refresh, RFC 2961, and of Thialfi's
registration summary, SOSP 2011). All of this is soft state: releasing any lease at any moment costs its client a new
subscribe, never an update.

A map from name to *group* leads from a topic to its leases. A group is a dict with the leases as keys: fan-out walks it
at the speed of C, a lease leaves it in O(1), and its order is the same in every run of the same history, which that of
a set, by object addresses, is not. No group is empty. One subscription costs one entry in the session's `names` and one
in the group: no object of its own, and no string, for a name held by thousands of sessions is one `str`. Measured on
CPython 3.11 with tracemalloc: an empty lease 205 bytes, its first name 185, each of tens of shared names on average 50
to 70, and 390 more for a name that no other lease holds.

No call here takes longer for a lease with more names, except those that are given the names. A lease that ends is over
at once: it has no token, no deadline, and gets no push. Its names are *reaped* afterwards, a portion at a time: by the
sweeper, by each `release`, and by each `add`, which reaps as many as it adds, so that what is held, names still to be
reaped included, never exceeds the most that living leases have held. The hash of a name is kept with its group: no name
is hashed when a lease leaves it.

Sans-I/O: `now` is in seconds of one clock that never goes back. Names are valid (`softstate.names`). For one thread.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from softstate.auth.identity import Identity
from softstate.errors import NoLease, Overloaded, TooLarge
from softstate.lease.history import History
from softstate.lease.principals import FULL_RETRY_MS, Principals
from softstate.lease.sink import Sink
from softstate.lease.timer_wheel import VISITS_MAX, Wheel
from softstate.lease.weight import GROUP_BYTES, MEMORY_LIMIT, MEMORY_RETRY_MS, NAME_BYTES, SESSION_BYTES
from softstate.names import reaching
from softstate.wire.subscription_digest import MASK, name_hash

GRACE = 0.1
"""Default time that the node keeps a lease beyond its TTL, as a fraction of the TTL (P-REN-5)."""

SESSIONS_MAX = 100_000
"""Most leases held, by default; beyond it, `grant` raises `Overloaded`."""

SUBSCRIPTIONS_MAX = 10_000
"""Most names in one lease, by default; beyond it, `add` and `replace` raise `TooLarge`."""

DETACHED_FRACTION = 0.1
"""Most leases without a connection, as a fraction of `sessions_max`: beyond it, the one detached first is given up."""

RELEASED_MAX = 100_000
"""Most released leases still in the wheel, by default; beyond it, `grant` takes them out of it."""

REAPED_MAX = 64
"""Names that one `release` reaps, by default: all of them, in the usual case of a lease with few."""

OVER = -math.inf
"""The deadline of a lease that has been released."""


@dataclass(slots=True, eq=False)
class Lease:
    """A promise to push every change of `names` until `deadline`; made, and changed, by its `LeaseTable` only.

    `token` is the session's secret, `name` what logs call it. `ttl_s` is what the client was told. `deadline` is
    the node's own end, grace included, or `OVER` once the lease was released. `digest` is that of `names`, kept up with
    each change. `sink` is the connection, None while there is none. `identity` is whose it is: under its grant the
    names were judged last, and `until` is when its credentials end, beyond which no deadline goes. `principal` is the
    digest of its principal, empty for an anonymous one. Its connection writes `history`. No two leases are equal.
    """

    token: str = field(repr=False)
    name: str
    ttl_s: float
    deadline: float
    names: dict[str, None] = field(default_factory=dict, repr=False)
    digest: int = 0
    sink: Sink | None = field(default=None, repr=False)
    identity: Identity | None = field(default=None, repr=False)
    until: float = math.inf
    principal: str = ""
    history: History = field(default=(), repr=False)

    @property
    def count(self) -> int:
        """The number of names that the lease holds."""
        return len(self.names)


class Group(dict[Lease, None]):
    """The leases that hold one name, in the order in which they came to hold it; `hash` is what it adds to a digest."""

    __slots__ = ("hash", "name")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.hash = name_hash(name)


@dataclass(frozen=True, slots=True)
class LeaseCounts:
    """Counts of a table: leases, names of all leases together, distinct names.

    Of the leases, `attached` have a connection, `detached` had one; `given_up` were released for want of one.
    """

    sessions: int
    attached: int
    detached: int
    given_up: int
    subscriptions: int
    groups: int


class LeaseTable:
    """All leases of one node, found by token, by deadline and by topic.

    A lease whose connection has ended is *detached*: its client may resume it. It must cost others nothing (P-RES-8):
    detached leases are counted apart, at most `DETACHED_FRACTION` of `sessions_max` are kept, and the one detached
    first is given up for a newer one, or for a new session when the table is full. So is that of a principal which has
    all that it may (0: any number): clients that come back must not be refused for what they were before.
    """

    def __init__(
        self,
        now: float,
        *,
        grace: float = GRACE,
        sessions_max: int = SESSIONS_MAX,
        subscriptions_max: int = SUBSCRIPTIONS_MAX,
        released_max: int = RELEASED_MAX,
        reaped_max: int = REAPED_MAX,
        sessions_per_identity_max: int = 0,
        subscriptions_per_identity_max: int = 0,
    ) -> None:
        self.sessions_max = sessions_max
        self.subscriptions_max = subscriptions_max
        self.weight_max = math.inf
        """Bytes that all leases may hold, by estimate: a session or a name beyond it is `Overloaded`."""
        self.retry_ms = 0
        """Time after which a client comes back whose lease was revoked as overloaded."""
        self.detached_max = max(1, int(sessions_max * DETACHED_FRACTION))
        self._released_max = released_max
        self._reaped_max = reaped_max
        self._lasts = 1 + grace
        self._now = now
        # By the time at which the connection ended, the first first; those that `awaited` has found too old apart.
        self._detached: dict[Lease, float] = {}
        self._unawaited: dict[Lease, None] = {}
        self._given_up = 0
        self._leases: dict[str, Lease] = {}
        self.principals: Principals[Lease] = Principals(sessions_per_identity_max, subscriptions_per_identity_max)
        self._groups: dict[str, Group] = {}
        self._subscriptions = 0
        self._reapable: deque[Lease] = deque()  # over, with names
        self._wheel: Wheel[Lease] = Wheel(now)

    def __len__(self) -> int:
        """Return how many leases are held."""
        return len(self._leases)

    def check_session(self, principal: str) -> None:
        """Raise `Overloaded` unless a principal, by its digest, may have one lease more, and there is memory for it."""
        self._check_memory(SESSION_BYTES)
        if not self.principals.may_begin(principal) and self._detached_of(principal) is None:
            raise self.principals.no_session(principal)

    def grant(
        self,
        token: str,
        now: float,
        ttl_s: float,
        name: str = "",
        identity: Identity | None = None,
        principal: str | None = None,
    ) -> Lease:
        """Make a lease without names, for a token that no lease has; `identity` is whose it is.

        `principal` is the digest of who has to answer for it, if that is another. Gives up the lease detached first
        when `sessions_max` are held, and of a principal that has all that it may. Raises `Overloaded` with `retry_ms`
        when all of them have a connection.
        """
        assert token not in self._leases
        self._now = max(self._now, now)
        if principal is None:
            principal = identity.digest if identity is not None and identity.issuer else ""
        self.check_session(principal)
        while not self.principals.may_begin(principal):
            self._give_up(self._detached_of(principal))
        if len(self._leases) >= self.sessions_max:
            if not (self._detached or self._unawaited):
                raise Overloaded(
                    f"this node holds all the sessions it may ({self.sessions_max}): poll, or try another node",
                    retry_ms=FULL_RETRY_MS,
                )
            self._give_up_first()
        if len(self._wheel) - len(self._leases) >= self._released_max:
            # Sessions that came and went within one TTL. It is one walk for `released_max` of them.
            self._wheel.discard(lambda lease: lease.deadline == OVER)
        until = math.inf if identity is None else identity.until
        lease = Lease(token, name, ttl_s, min(now + ttl_s * self._lasts, until), identity=identity, until=until)
        self._leases[token] = lease
        if principal:
            lease.principal = principal
            self.principals.add(principal, lease)
        self._wheel.add(lease, lease.deadline)
        return lease

    def get(self, token: str) -> Lease | None:
        """Return the lease of a session, None if it is over."""
        return self._leases.get(token)

    def of_principal(self, digest: str) -> Sequence[Lease]:
        """Return the leases of a principal, by its digest."""
        return self.principals.of(digest)

    def all(self) -> list[Lease]:
        """Return every lease."""
        return list(self._leases.values())

    def attach(self, lease: Lease, sink: Sink) -> None:
        """Give a lease a connection, in place of one that it may have."""
        self._forget_detached(lease)
        lease.sink = sink

    def detach(self, lease: Lease) -> None:
        """Note that the connection of a lease has ended: it stays, and may be resumed, until its TTL ends (P-RES-1).

        If more than `detached_max` are detached then, the one detached first is given up. The time of it is that of
        the last call of `grant`, `expire` or `awaited`: less than a second ago in a node.
        """
        lease.sink = None
        if lease.deadline == OVER:
            return
        self._forget_detached(lease)
        self._detached[lease] = self._now
        if len(self._detached) + len(self._unawaited) > self.detached_max:
            self._give_up_first()

    def awaited(self, now: float, within_s: float) -> int:
        """Count the leases that have a connection, or were detached within the last `within_s` seconds.

        So many clients are here, or may be on their way back. Cheap; `within_s` must not change between calls.
        """
        self._now = max(self._now, now)
        detached = self._detached
        while detached:
            lease, since = next(iter(detached.items()))
            if since > now - within_s:
                break
            del detached[lease]
            self._unawaited[lease] = None
        return len(self._leases) - len(self._unawaited)

    def _forget_detached(self, lease: Lease) -> None:
        self._detached.pop(lease, None)
        self._unawaited.pop(lease, None)

    def _give_up_first(self) -> None:
        self._give_up(next(iter(self._unawaited or self._detached)))

    def _give_up(self, lease: Lease | None) -> None:
        if lease is not None:
            self.release(lease)
            self._given_up += 1

    def _detached_of(self, principal: str) -> Lease | None:
        """Return the lease of a principal that was detached first."""
        leases = self.principals.of(principal)
        detached = [lease for lease in leases if lease in self._detached or lease in self._unawaited]
        return min(detached, key=lambda lease: self._detached.get(lease, -math.inf), default=None)

    def extend(self, lease: Lease, now: float, ttl_s: float | None = None) -> None:
        """Move the deadline to `now` + TTL + grace, never back (P-REN-5), nor beyond the end of the credentials.

        `ttl_s` changes the TTL. Raises `NoLease`.
        """
        if lease.deadline == OVER:
            self._check_held(lease)
        if ttl_s is not None:
            lease.ttl_s = ttl_s
        deadline = now + lease.ttl_s * self._lasts
        # Neither a call nor max(): without them a renewal costs a quarter of what it did (`bench leases`: 135 ns, 560).
        if deadline > lease.until:  # noqa: PLR1730
            deadline = lease.until
        if deadline > lease.deadline:  # noqa: PLR1730
            lease.deadline = deadline

    def bound(self, lease: Lease, until: float) -> None:
        """Have the deadline move no more beyond `until`, the end of the credentials that are presented now.

        It stays where it is, should these end sooner than those before: its client was told of it.
        """
        lease.until = until

    def belong(self, lease: Lease, identity: Identity) -> None:
        """Note whose lease it is, and under which grant all of its names were judged; as `bound` besides."""
        lease.identity, lease.until = identity, identity.until

    def release(self, lease: Lease) -> None:
        """End a lease at once: it is found no more, takes nothing, and is pushed nothing. Idempotent.

        Its names are reaped, beginning with those of leases that ended before: `reaped_max` now, the others later.
        Its `sink` is left, so that the client can be told.
        """
        if lease.deadline != OVER:
            self._end(lease)
            self.reap(self._reaped_max)

    def _end(self, lease: Lease) -> None:
        self._forget_detached(lease)
        del self._leases[lease.token]
        if lease.principal:
            self.principals.remove(lease.principal, lease, len(lease.names))
        lease.deadline = OVER
        if lease.names:
            self._reapable.append(lease)

    def reap(self, limit: int) -> int:
        """Take at most `limit` names of leases that are over out of their groups; return how many were taken."""
        left = limit
        reapable, groups = self._reapable, self._groups
        while reapable and left:
            lease = reapable[0]
            names = lease.names
            for _ in range(min(left, len(names))):
                name, _ = names.popitem()
                group = groups[name]
                del group[lease]
                if not group:
                    del groups[name]
                left -= 1
            if not names:
                lease.digest = 0
                reapable.popleft()
        self._subscriptions -= limit - left
        return limit - left

    @property
    def reapable(self) -> bool:
        """Whether there are names to reap."""
        return bool(self._reapable)

    def clear(self, leases: Iterable[Lease] | None = None) -> list[Lease]:
        """End these leases at once, or every one, as when the store was rewound; return those that had not ended.

        As `expire`, it reaps nothing.
        """
        ending = [lease for lease in (self._leases.values() if leases is None else leases) if lease.deadline != OVER]
        for lease in ending:
            self._end(lease)
        return ending

    def expire(self, now: float, limit: int = VISITS_MAX) -> list[Lease]:
        """End the leases whose deadline is over, and return them; looks at `limit` leases at most.

        Called whenever `next_expire_s` says, it finds a lease within one tick of the wheel after its deadline (within a
        second, if the TTL is less than that). A lease that is past its deadline but not found yet is held like any
        other, and may still be extended. Their names are left to `reap`.
        """
        self._now = max(self._now, now)
        due = [lease for lease in self._wheel.advance(now, _DEADLINE, limit) if lease.deadline != OVER]
        leases, reapable = self._leases, self._reapable
        for lease in due:  # as `_end` does, without a call for each: that was a sixth of what expiring one cost
            if lease.sink is None:
                self._forget_detached(lease)
            del leases[lease.token]
            if lease.principal:
                self.principals.remove(lease.principal, lease, len(lease.names))
            lease.deadline = OVER
            if lease.names:
                reapable.append(lease)
        return due

    def next_expire_s(self, now: float) -> float:
        """Return how many seconds to wait before calling `expire` and `reap` again: 0 if a limit left work to do."""
        return 0.0 if self._reapable else self._wheel.next_tick_s(now)

    def check_room(self, lease: Lease, names: Iterable[str]) -> None:
        """Raise as `add` would for these names, and add none: for names that are added in several portions."""
        self._check_held(lease)
        self._make_room(lease, len({name for name in names if name not in lease.names}))

    def add(self, lease: Lease, names: Iterable[str]) -> list[str]:
        """Let a lease hold more names; return those that it did not hold before. Reaps as many as it adds.

        Raises `TooLarge` when it would hold more than `subscriptions_max`, `Overloaded` when its principal would hold
        more than it may, and `NoLease` when it is over. Each leaves this lease as it was.
        """
        self._check_held(lease)
        fresh = [name for name in dict.fromkeys(names) if name not in lease.names]
        self._make_room(lease, len(fresh))
        if self._reapable:
            self.reap(len(fresh))
        self.principals.hold(lease.principal, len(fresh))
        return [self._join(lease, name) for name in fresh]

    def digest_of(self, names: Iterable[str]) -> int:
        """Return the sum of the hashes of those names that some lease holds, which need not be computed for that."""
        groups = self._groups
        return sum([groups[name].hash for name in names if name in groups])

    def remove(self, lease: Lease, names: Iterable[str]) -> None:
        """Let a lease hold these names no longer. Names that it does not hold are passed over, as is a lease's end."""
        if lease.deadline == OVER:
            return
        before = len(lease.names)
        for name in names:
            if name in lease.names:
                self._leave(lease, name)
        self.principals.hold(lease.principal, len(lease.names) - before)

    def reached(self, topic: str) -> list[Group]:
        """Return the groups whose leases cover a topic: that of the topic, then those of its prefixes, widest first.

        This is the cheap way to fan out: one look-up for the topic and one for each of its segments, for any
        number of leases. **A lease may be in several of these groups** (it holds the topic and a prefix of it): use
        `members` unless pushing twice is harmless. The groups are the table's own: read them before the next change to
        it, or from a copy if what you do may release a lease.
        """
        found = [self._groups.get(topic), *map(self._groups.get, reaching(topic))]
        return [group for group in found if group is not None]

    def members(self, topic: str) -> Iterable[Lease]:
        """Return the leases that cover a topic, each once, as `merge` does."""
        return self.merge(self.reached(topic))

    @staticmethod
    def merge(groups: Sequence[Group]) -> Iterable[Lease]:
        """Return the leases of groups that `reached` found, each once; also some that are over (by their `deadline`).

        With one group, the usual case, this is the group itself, uncopied, to be read as `reached` says.
        """
        if len(groups) == 1:
            return groups[0]
        merged: dict[Lease, None] = {}
        for group in groups:
            merged.update(group)
        return merged

    def statistics(self) -> LeaseCounts:
        """Count what is held, names to be reaped included; all zero, but `given_up`, once all clients have gone."""
        sessions, detached = len(self._leases), len(self._detached) + len(self._unawaited)
        return LeaseCounts(
            sessions, sessions - detached, detached, self._given_up, self._subscriptions, len(self._groups)
        )

    def _check_held(self, lease: Lease) -> None:
        if lease.deadline == OVER:
            raise NoLease("the lease of this session is over: subscribe again")

    def _check_memory(self, size: int) -> None:
        if self.weight_max == math.inf:
            return
        held = len(self._leases) * SESSION_BYTES + self._subscriptions * NAME_BYTES + len(self._groups) * GROUP_BYTES
        if held + size > self.weight_max:
            self.principals.limited(MEMORY_LIMIT, None)
            text = f"this node's memory is full ({MEMORY_LIMIT}): poll meanwhile, or try another node"
            raise Overloaded(text, retry_ms=MEMORY_RETRY_MS, why=MEMORY_LIMIT)

    def _make_room(self, lease: Lease, names: int) -> None:
        count = len(lease.names) + names
        if count > self.subscriptions_max:
            raise TooLarge(
                f"a session holds at most {self.subscriptions_max} subscriptions, this would make it {count}:"
                " subscribe to a prefix, or use several sessions"
            )
        if names:
            self._check_memory(names * NAME_BYTES)
        while not self.principals.may_hold(lease.principal, names):
            detached = self._detached_of(lease.principal)
            if detached is None:
                raise self.principals.no_names(lease.principal, names)
            self._give_up(detached)

    def _join(self, lease: Lease, name: str) -> str:
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Group(name)
        group[lease] = None
        lease.names[group.name] = None
        lease.digest = (lease.digest + group.hash) & MASK
        self._subscriptions += 1
        return group.name

    def _leave(self, lease: Lease, name: str) -> None:
        group = self._groups[name]
        del group[lease]
        if not group:
            del self._groups[name]
        del lease.names[name]
        lease.digest = (lease.digest - group.hash) & MASK
        self._subscriptions -= 1


_DEADLINE: Callable[[Lease], float] = attrgetter("deadline")
