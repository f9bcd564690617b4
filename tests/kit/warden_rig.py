"""A warden over a table of leases, with rules that a test sets."""

from __future__ import annotations

from collections.abc import Iterable

import trio
import trio.testing

from softstate.auth.digests import digest_of
from softstate.auth.identity import NOTHING, Identity
from softstate.lease import Lease, LeaseTable
from softstate.model import Record
from softstate.server.auth.gate import NodeGate
from softstate.server.auth.warden import Warden
from softstate.wire import encode_value
from softstate.wire.messages import Reason
from tests.kit.rules_gate import RulesGate

U1 = Identity("issuer", "u1", NOTHING, key="k1", token=digest_of("t1"), token_id=digest_of("j1"), issued_at=5.0)


class Rig:
    """A warden over a table; `ended` are the leases that it had ended, in each call."""

    def __init__(self) -> None:
        self.rules = RulesGate()
        self.table = LeaseTable(0.0)
        self.ended: list[list[str]] = []
        self.reasons: set[tuple[Reason, int]] = set()
        self.held: list[tuple[trio.CancelScope, Identity]] = []
        gate = NodeGate(self.rules, lambda: 0.0, lambda: 0.0)
        self.warden = Warden(gate, self.table, self._end, lambda: self.held)

    def _end(self, leases: Iterable[Lease], reason: Reason, retry_ms: int) -> None:
        self.reasons.add((reason, retry_ms))
        self.ended.append([lease.token for lease in self.table.clear(leases)])

    def lease(self, token: str, identity: Identity) -> Lease:
        return self.table.grant(token, 0.0, 60, identity=identity)

    def heed(self, topic: str, **value: object) -> int:
        """Heed a revocation; return how often it would let others go on."""
        return sum(1 for _ in self.warden.heed([Record(topic, 1, encode_value(value))]))

    @property
    def all_ended(self) -> list[str]:
        return sorted(token for tokens in self.ended for token in tokens)
