"""The faults of a simulated world, one method for each, and a record of those that were injected.

A fault begins with the call and lasts until it is ended; `heal` ends all of them. No method waits, except those that
start a node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Literal, final

import trio

from softstate.auth.revocations import Revocation, subject_topic, token_topic
from softstate.errors import RequestError
from softstate.model import Value
from softstate.server import Node
from softstate.store.base import Write
from softstate.store.memory.store import MemoryImage
from softstate.testing.network.frame_rules import FrameRule
from softstate.testing.network.frame_tap import Kind
from softstate.testing.network.route import LOCAL, uniform
from softstate.testing.simulation.callout import CalloutFault
from softstate.testing.simulation.client import SimClient
from softstate.testing.simulation.clocks import SimClock
from softstate.testing.simulation.environment import Environment
from softstate.testing.simulation.freezer import start_on
from softstate.testing.simulation.issuer import ISSUER, ProviderFault
from softstate.testing.simulation.node import SimNode
from softstate.testing.simulation.signed_issuer import KeysFault, SignedIssuer
from softstate.testing.trace import FaultInjected, RevocationNamed
from softstate.wire import encode_value
from softstate.wire.request_digest import request_digest


@final
class Faults:
    """The faults of one world. Hosts are named as its nodes and clients are."""

    def __init__(
        self, environment: Environment, nodes: Mapping[str, SimNode], clients: Mapping[str, SimClient]
    ) -> None:
        self.injected: list[str] = []
        """The faults so far, in order, each with its time."""
        self._nodes = nodes
        self._clients = clients
        self._trace = environment.trace
        self._freezer = environment.freezer
        self._nursery = environment.nursery
        self._network = environment.network
        self._disk = environment.disk
        self._issuer = environment.issuer
        self._callout = environment.callout
        self._random = environment.seeds.random("faults")
        self._backups: dict[str, MemoryImage] = {}

    def note(self, kind: str, detail: str = "") -> None:
        """Record a fault that a scenario injects by its own means."""
        now = trio.current_time()
        self.injected.append(f"{now:.3f} {kind} {detail}".rstrip())
        self._trace.add(FaultInjected(now, kind, detail))

    # Processes -------------------------------------------------------------------------------------------------------

    def crash(self, host: str, how: Literal["killed", "power"] = "killed") -> None:
        """End a node's or client's process: its kernel resets its connections, or no peer notices (``power``)."""
        self.note("crash", f"{host} {how}")
        self._host(host).end(how)

    def crash_at(
        self, node: str, point: str, *, after: int = 1, how: Literal["killed", "power"] = "killed"
    ) -> None:  # fmt: skip
        """Crash a node when it passes a crash point of its store for the `after`-th time (see `SimStore`)."""
        self.note("crash_at", f"{node} {point} #{after} {how}")
        self._nodes[node].at_point(point, partial(self.crash, node, how), after)

    async def restart(self, node: str) -> None:
        """Start a node that is down; returns once it listens."""
        self.note("restart", node)
        await self._nodes[node].start()

    def freeze(self, host: str) -> None:
        """Stop a process, as SIGSTOP or a suspend does; its clock goes on, and its kernel still receives bytes."""
        self.note("freeze", host)
        self._freezer.freeze(host)

    def thaw(self, host: str) -> None:
        """Let a frozen process go on."""
        self.note("thaw", host)
        self._freezer.thaw(host)

    def amnesia(self, node: str, share: float = 1.0) -> None:
        """Delete leases of a running node, each with a chance of `share`."""
        self.note("amnesia", f"{node} {share:g}")
        self._nodes[node].forget_leases(share, self._random)

    def forget_names(self, node: str, share: float = 1.0) -> None:
        """Delete subscriptions from the leases of a running node, each with a chance of `share`."""
        self.note("forget_names", f"{node} {share:g}")
        self._nodes[node].forget_names(share, self._random)

    # The network: one direction, unless the docstring says otherwise -------------------------------------------------

    def stall(self, sender: str, receiver: str) -> None:
        """Partition one direction."""
        self.note("stall", f"{sender}→{receiver}")
        self._network.stall(sender, receiver)

    def partition(self, one: str, other: str) -> None:
        """Partition both directions."""
        self.note("partition", f"{one}↔{other}")
        self._network.stall(one, other)
        self._network.stall(other, one)

    def half_open(self, one: str, other: str) -> None:
        """Lose every connection between two hosts without telling either; new ones work."""
        self.note("half_open", f"{one}↔{other}")
        self._network.half_open(one, other)

    def reset(self, one: str, other: str) -> None:
        """Reset every connection between two hosts."""
        self.note("reset", f"{one}↔{other}")
        self._network.reset(one, other)

    def ignore_new(self, sender: str, receiver: str) -> None:
        """Leave new connections unanswered; existing ones go on."""
        self.note("ignore_new", f"{sender}→{receiver}")
        self._network.ignore_new(sender, receiver)

    def block(self, client: str, node: str, kind: Kind, how: Literal["swallow", "reset"] = "swallow") -> None:
        """Block ``websocket`` or ``http`` between a client and a node."""
        self.note("block", f"{kind} {client}→{node} {how}")
        self._network.block(client, node, kind, how)

    def split(self, sender: str, receiver: str, chunk_bytes: int) -> None:
        """Let bytes arrive in random pieces of at most `chunk_bytes`, and be written in part."""
        self.note("split", f"{sender}→{receiver} {chunk_bytes}")
        self._network.split(sender, receiver, chunk_bytes)

    def slow(self, sender: str, receiver: str, least_s: float, most_s: float) -> None:
        """Set the time that bytes travel, uniform between two bounds in seconds."""
        self.note("slow", f"{sender}→{receiver} {least_s:g} to {most_s:g} s")
        self._network.set_delay(sender, receiver, uniform(least_s, most_s))

    def frames(self, rule: FrameRule) -> FrameRule:
        """Apply a rule to single WebSocket messages; return the rule, which counts its hits."""
        self.note("frames", str(rule))
        self._network.rules.append(rule)
        return rule

    def restore_routes(self, one: str, other: str) -> None:
        """End all faults between two hosts, in both directions, and reset their delays."""
        self.note("restore_routes", f"{one}↔{other}")
        for sender, receiver in ((one, other), (other, one)):
            self._network.set_delay(sender, receiver, LOCAL)
            self._network.heal(sender, receiver)

    def stop_reading(self, host: str) -> None:
        """Let a host read nothing from its connections."""
        self.note("stop_reading", host)
        self._network.not_reading[host] = None

    def read_slowly(self, host: str, pause_s: float) -> None:
        """Let a host wait before each read."""
        self.note("read_slowly", f"{host} {pause_s:g} s")
        self._network.reading_pause_s[host] = pause_s

    def resume_reading(self, host: str) -> None:
        """Let a host read at once again."""
        self.note("resume_reading", host)
        self._network.resume_reading(host)

    # Permissions -----------------------------------------------------------------------------------------------------

    def policy(self, client: str, *names: str) -> None:
        """Let a client read and publish what these names cover, and nothing else. Not a fault."""
        rules = self._issuer or self._callout
        assert rules is not None, "the nodes of this world check no credentials"
        self.note("policy", f"{client} {' '.join(names)}")
        rules.allow(client, *names)

    def provider(self, fault: ProviderFault | None) -> None:
        """Have every provider of tokens fail, hang, or give the last token again; or be well."""
        assert self._issuer is not None, "the nodes of this world check no credentials"
        self.note("provider", fault or "well")
        self._issuer.fault = fault

    def callout(self, fault: CalloutFault | None) -> None:
        """Have the callout refuse connections, be slow, hang, or answer nonsense; or be well."""
        assert self._callout is not None, "the nodes of this world ask no callout"
        self.note("callout", fault or "well")
        self._callout.fault = fault

    def remove_keys(self) -> None:
        """Take all tokens out of force that there are; others are to be had. Not a fault."""
        assert self._issuer is not None, "the nodes of this world check no credentials"
        self.note("remove_keys")
        self._issuer.rotate()
        self._issuer.remove_keys()

    def rotate_keys(self) -> None:
        """Have tokens signed with another key; those that there are stay good. Not a fault."""
        assert self._issuer is not None, "the nodes of this world check no credentials"
        self.note("rotate_keys")
        self._issuer.rotate()

    def keys(self, fault: KeysFault | None) -> None:
        """Have the host of the keys refuse connections, be slow, hang, or answer nonsense; or be well."""
        assert isinstance(self._issuer, SignedIssuer), "the nodes of this world fetch no keys"
        self.note("keys", fault or "well")
        self._issuer.keys_fault = fault

    def spoil_policy(self) -> None:
        """Write a policy file that no node can read, until the rules change or `heal`: all stays as it is."""
        assert isinstance(self._issuer, SignedIssuer), "the nodes of this world have no policy file"
        self.note("spoil_policy")
        self._issuer.write("[[alow]]")

    def log_out(self, client: str) -> None:
        """Have the callout accept no token that a client has now; others are to be had. Not a fault."""
        assert self._callout is not None, "the nodes of this world ask no callout"
        self.note("log_out", client)
        self._callout.log_out(client)

    def revoke(
        self, subject: str, token: str | None = None, *, through: str | None = None, ahead_s: float = 0.0
    ) -> None:
        """Revoke the tokens that a subject has by now, or only one of them. Not a fault.

        `through` is the node at which an administrator publishes it; None: one outside of this world. `ahead_s` is by
        how much the administrator's clock is ahead of the issuer's.
        """
        self.note("revoke", f"{subject} {token or ''} through {through or 'another node'}")
        topic = _revoking(subject, token)
        self._trace.add(RevocationNamed(trio.current_time(), topic, subject, token))
        before = trio.current_time() + ahead_s if token is None else math.inf
        self._administer(topic, encode_value(Revocation(topic, before).value()), through)

    def undo_revoke(self, subject: str, token: str | None = None, *, through: str | None = None) -> None:
        """Undo a revocation. Not a fault."""
        self.note("undo_revoke", f"{subject} {token or ''} through {through or 'another node'}")
        self._administer(_revoking(subject, token), None, through)

    def _administer(self, topic: str, cbor: bytes | None, through: str | None) -> None:
        write = Write(topic, cbor, digest=request_digest(topic, cbor, None, None))
        if through is None:
            self._disk.commit(write)
        elif (node := self._nodes[through].node) is not None:
            start_on(through, self._nursery, _publish, node, write)

    def wall_jump(self, node: str, by_s: float) -> None:
        """Set a node's clock for people, by which tokens tell their times."""
        self.note("wall_jump", f"{node} {by_s:g} s")
        self._nodes[node].wall_offset_s += by_s

    # The store -------------------------------------------------------------------------------------------------------

    def store_down(self, node: str | None = None, *, down: bool = True) -> None:
        """Cut one node off the store, or all of them (None); or let them reach it again."""
        self.note("store_down" if down else "store_up", node or "all")
        if node is None:
            self._disk.outage = down
        elif (store := self._nodes[node].store) is not None:
            store.outage = down

    def store_slow(self, least_s: float, most_s: float) -> None:
        """Let each half of every store call take between two bounds, in seconds; 0, 0: no time."""
        self.note("store_slow", f"{least_s:g} to {most_s:g} s")
        self._disk.delay = uniform(least_s, most_s) if most_s > 0 else None

    def call_slow(self, node: str, call: str, least_s: float, most_s: float) -> None:
        """Let one store call of a node (``feed``, ``read``, ``head`` …) take longer, in seconds; 0, 0: no longer.

        With a slow ``feed``, its hub lags.
        """
        self.note("call_slow", f"{node} {call} {least_s:g} to {most_s:g} s")
        if (store := self._nodes[node].store) is not None:
            store.slow.pop(call, None)
            if most_s > 0:
                store.slow[call] = uniform(least_s, most_s)

    def feed_stuck(self, node: str, *, on: bool = True) -> None:
        """Let a node hear of no commit of others while its store reads, writes and tells its head; or end that."""
        self.note("feed_stuck" if on else "feed_moves", node)
        if (store := self._nodes[node].store) is not None:
            store.stick_feed(on=on)

    def store_hang(self, *, on: bool = True) -> None:
        """Let all store calls hang, or go on."""
        self.note("store_hang" if on else "store_resumed")
        self._disk.hang(on=on)

    def store_read_only(self, *, on: bool = True) -> None:
        """Let every write to the store fail while reads work, as on a full disk; or let writes work again."""
        self.note("store_read_only" if on else "store_writable")
        self._disk.read_only = on

    def slow_transaction(self, topic: str, value: Value) -> Callable[[], int]:
        """Begin a commit that has drawn its revision; call the returned function to make it visible there.

        No store may do this (`softstate.store.base`): commits made in between are visible out of commit order.
        """
        self.note("slow_transaction", topic)
        return self._disk.begin(Write(topic, encode_value(value)))

    def lose_reply(self, node: str, publishes: int = 1) -> None:
        """Commit the next publishes of a node, but answer them with an error."""
        self.note("lose_reply", f"{node} {publishes}")
        if (store := self._nodes[node].store) is not None:
            store.replies_lost = publishes

    def disk_crash(self) -> int:
        """Crash the host of the disk; return how many revisions are lost (0 if it claims durability)."""
        lost = self._disk.crash()
        self.note("disk_crash", f"{lost} revisions lost")
        return lost

    def backup(self, name: str) -> None:
        """Take a backup of the store. Not a fault."""
        self._backups[name] = self._disk.snapshot()
        self.note("backup", f"{name} at {self._disk.image.head}")

    def rewind(self, name: str, *, advance: int = 0) -> None:
        """Restore a backup while nodes run, then commit `advance` changes before a node can notice."""
        self.note("rewind", f"{name}, then {advance} commits")
        self._disk.restore(self._backups[name])
        for number in range(advance):
            self.commit(f"advanced/{number}", number)

    def damage(self, *topics: str) -> None:
        """Damage the records of topics that have a value, until they are published again."""
        self.note("damage", " ".join(topics))
        for topic in topics:
            self._disk.damage(topic)

    def mend(self, *topics: str) -> None:
        """Publish those of some topics whose records are damaged; without names, all of them."""
        for topic in self._disk.unreadable:
            if not topics or topic in topics:
                self.commit(topic, "mended")

    def wipe(self) -> None:
        """Replace the store by an empty one of another epoch."""
        self.note("wipe")
        self._disk.wipe()

    def commit(self, topic: str, value: Value, *, deleted: bool = False) -> int:
        """Commit a change as a node outside of this world does; return its revision. Not a fault."""
        return self._disk.commit(Write(topic, None if deleted else encode_value(value)))

    # Clocks ----------------------------------------------------------------------------------------------------------

    def clock_rate(self, host: str, rate: float) -> None:
        """Let a host's clock run at another rate."""
        self.note("clock_rate", f"{host} {rate:g}")
        self._clock(host).set_rate(rate)

    def clock_jump(self, host: str, by_s: float) -> None:
        """Advance a host's clock; a client takes it for a sleep of its host."""
        self.note("clock_jump", f"{host} {by_s:g} s")
        self._clock(host).jump(by_s)

    def _host(self, name: str) -> SimNode | SimClient:
        return self._nodes[name] if name in self._nodes else self._clients[name]

    def _clock(self, host: str) -> SimClock:
        return self._host(host).clock

    # All of them -----------------------------------------------------------------------------------------------------

    async def heal(self) -> None:
        """End all faults of network, store, records, clocks and providers; let frozen hosts go on; start nodes."""
        self.note("heal")
        self._network.rules.clear()
        for host in (*self._nodes, *self._clients):
            self._freezer.thaw(host)
            self._clock(host).set_rate(1.0)
            self._network.resume_reading(host)
        for route in self._network.routes():
            self._network.set_delay(route.sender, route.receiver, LOCAL)
            self._network.heal(route.sender, route.receiver)
        if self._issuer is not None:
            self._issuer.fault = None
        if isinstance(self._issuer, SignedIssuer):
            self._issuer.keys_fault = None
            self._issuer.write()
        if self._callout is not None:
            self._callout.fault = None
        self._disk.outage = False
        self._disk.delay = None
        self._disk.read_only = False
        self._disk.hang(on=False)
        for place in self._nodes.values():
            if place.store is not None:
                place.store.outage = False
                place.store.slow.clear()
                place.store.stick_feed(on=False)
                place.store.replies_lost = 0
            place.clear_points()
            place.wall_offset_s = 0.0
            if not place.up:
                await place.start()
        self.mend()


def _revoking(subject: str, token: str | None) -> str:
    return subject_topic(ISSUER, subject) if token is None else token_topic(token)


async def _publish(node: Node, write: Write) -> None:
    with suppress(RequestError):
        await node.access.writes.publish(write)
