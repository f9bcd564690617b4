"""Sessions of one node under rules, without sockets: what it costs to judge their leases again, and their memory.

``python -m bench.load.judging FILE``, driven over `bench.load.process`; FILE is a policy file. Sessions are the real
machines with the real lease table and authority. Neither a store nor a connection is there: a store that holds nothing
answers at once.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from bench.load.process import LoadFailed, serve
from softstate.auth.authority import RulesAuthority
from softstate.lease import LeaseTable
from softstate.lease.sink import NOWHERE
from softstate.model import Durability, Page
from softstate.position import Position
from softstate.server.auth.gate import NodeGate
from softstate.server.auth.policy_files import load_policy
from softstate.session import OPEN_GATE, Effect, Gate, NodeTerms, Read, ReadHead, Send, SendAhead, SessionMachine
from softstate.wire.messages import (
    ClientMessage,
    Hello,
    Limits,
    PollAdvice,
    RecoverAdvice,
    Renew,
    Renewed,
    Subscribe,
    Subscribed,
)
from softstate.wire.subscription_digest import digest_of, digest_text

NOW = 1_000.0
HERE = Position("epoch", "lineage", 1)
NAMES = 3
"""Names of a lease, all of which rules are asked about."""
TERMS = NodeTerms(
    node="bench",
    ttl_ms=3_600_000,
    timeout_ms=5_000,
    poll=PollAdvice(every_ms=15_000, spread_ms=100),
    recover=RecoverAdvice(spread_ms=700, base_ms=500, cap_ms=30_000),
    limits=Limits(10_000, 65_536, 262_144, 1_024, 100_000, 600_000, 1_024, 4_096, 16_384),
    durability=Durability.NONE,
)


class Sessions:
    """Sessions that follow `NAMES` names each, at a node with such a gate."""

    def __init__(self, gate: Gate, sessions_max: int) -> None:
        self._gate = gate
        self._leases = LeaseTable(NOW, sessions_max=sessions_max)
        self._machines: list[tuple[SessionMachine, Renew]] = []
        self._tokens = count()
        self._repairs: Counter[str] = Counter()

    def open(self, token: str | None, names: Sequence[str]) -> None:
        """Open one, which presents a token."""
        machine = SessionMachine(
            self._leases, NOWHERE, lambda: TERMS, lambda: f"{next(self._tokens):022}", self._repairs, gate=self._gate
        )
        self._ask(machine, Hello(token=token))
        said = self._ask(machine, Subscribe(1, dict.fromkeys(names, 0)))
        if not any(isinstance(one, Send) and isinstance(one.message, Subscribed) for one in said):
            raise LoadFailed(f"a session was not opened: {said}")
        self._machines.append((machine, Renew(2, digest_text(digest_of(names)), len(names))))

    def renew(self) -> float:
        """Renew all once; return the CPU seconds of each, those of the store's answers included."""
        began = time.process_time_ns()
        for machine, renewal in self._machines:
            said = self._ask(machine, renewal)
            if not (len(said) == 1 and isinstance(said[0], Send) and isinstance(said[0].message, Renewed)):
                raise LoadFailed(f"a session was not renewed: {said}")
        return (time.process_time_ns() - began) / 1e9 / len(self._machines)

    @staticmethod
    def _ask(machine: SessionMachine, message: ClientMessage) -> list[Effect]:
        """Have a machine take a message, and answer what it asks of the store; return what it tells its client."""
        said: list[Effect] = []
        effects = machine.received(message, NOW)
        while effects:
            asked, effects = effects, []
            for effect in asked:
                match effect:
                    case Read():
                        effects += machine.answered(effect.ticket, Page(HERE, 0), NOW)
                    case ReadHead():
                        effects += machine.caught_up(effect.ticket, HERE, 0, NOW)
                    case Send() | SendAhead():
                        said.append(effect)
        return said


def names_of(number: int) -> list[str]:
    """Return the names that session `number` follows."""
    return [f"inbox/{number:06}", "shared/00", "shared/01"]


class Judging:
    """The commands of the process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def judge(self, tokens: Sequence[str], times: int) -> dict[str, Any]:
        """Renew a session of each token, in turn under the rules as they were and under rules that were read again."""
        authority = self._authority()
        sessions = Sessions(NodeGate(authority, lambda: NOW, time.time), len(tokens))
        for number, token in enumerate(tokens):
            sessions.open(token, names_of(number))
        sessions.renew()
        as_they_were, changed = [], []
        for _ in range(times):
            as_they_were.append(sessions.renew())
            loaded = load_policy(self._path)
            authority.change(loaded.policy, loaded.keyrings)
            changed.append(sessions.renew())
        return {"as_they_were_s": sum(as_they_were) / times, "changed_s": sum(changed) / times}

    def identify(self, tokens: Sequence[str]) -> dict[str, Any]:
        """Return the bytes that are remembered of a verified token without a session, its text not counted."""
        authority = self._authority()
        authority.identify(tokens[-1], NOW, time.time())  # to import what it takes
        tracemalloc.start()
        for token in tokens[:-1]:
            authority.identify(token, NOW, time.time())
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return {"bytes": size / (len(tokens) - 1)}

    def weigh(self, tokens: Sequence[str], checked: bool) -> dict[str, Any]:
        """Return the bytes that a session takes, of one for each token, whether tokens are checked or not.

        All that is remembered of a token is in it; the text of tokens is not.
        """
        gate: Gate = NodeGate(self._authority(), lambda: NOW, time.time) if checked else OPEN_GATE
        Sessions(gate, 1).open(tokens[-1], names_of(0))  # to import what it takes
        names = [names_of(number) for number in range(len(tokens))]
        tracemalloc.start()
        sessions = Sessions(gate, len(tokens))
        for token, mine in zip(tokens[:-1], names, strict=False):
            sessions.open(token, mine)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return {"bytes": size / (len(tokens) - 1)}

    def _authority(self) -> RulesAuthority:
        loaded = load_policy(self._path)
        return RulesAuthority(loaded.policy, loaded.keyrings)


def main() -> None:
    """Serve commands until the parent ends."""
    judging = Judging(Path(sys.argv[1]))
    serve({"judge": judging.judge, "identify": judging.identify, "weigh": judging.weigh})


if __name__ == "__main__":
    main()
