"""Publishing and deleting revocations at a node, by compare-and-set: what reaches further is never lost."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import trio

from softstate.auth.revocations import Revocation, revocation_of
from softstate.cli.exit_codes import CONFLICT, Failure
from softstate.cli.options.credentials import Presented
from softstate.cli.options.nodes import connected
from softstate.client.api.client import Client
from softstate.client.api.receipt import Receipt, refusal_of
from softstate.errors import Conflict, Denied, NotFound, OutcomeUnknown, RequestError, TryLater, Unreadable
from softstate.model import Change, Record
from softstate.wire import encode_value

TRIES = 5
"""Most attempts to change a revocation that others change at the same time."""

READ_S_MIN = 0.001


@dataclass(frozen=True)
class Nodes:
    """The nodes to ask, with which credentials, and for how long."""

    urls: Sequence[str]
    credentials: Presented
    timeout_s: float


async def revoke(wanted: Revocation, nodes: Nodes) -> Revocation:
    """Put a revocation in force; return it, with what an earlier one of that topic says that reaches further.

    Raises `Failure` or a `RequestError` that say "nothing was revoked", or `OutcomeUnknown`.
    """
    async with _topic(wanted.topic, nodes, "revoked") as topic:
        for _ in range(TRIES):
            known, expect = await topic.read()
            both = wanted if known is None else furthest(known, wanted)
            with suppress(Conflict):
                return replace(both, version=await topic.publish(both, expect))
    raise _contended("revoked")


async def undo(topic_name: str, nodes: Nodes) -> None:
    """Take a revocation back. Raises as `revoke` does, and `NotFound` if there is none."""
    async with _topic(topic_name, nodes, "undone") as topic:
        for _ in range(TRIES):
            known, expect = await topic.read()
            if known is None:
                raise NotFound(f"there is no revocation {topic_name}")
            with suppress(Conflict):
                await topic.delete(expect)
                return
    raise _contended("undone")


def furthest(known: Revocation, wanted: Revocation) -> Revocation:
    """Return a revocation of all that two of one topic revoke, for as long as the longer one."""
    return replace(
        wanted,
        before=max(known.before, wanted.before),
        until=max(known.until, wanted.until),
        reason=wanted.reason or known.reason,
    )


def reaches_further(both: Revocation, wanted: Revocation) -> bool:
    """Tell whether what is in force now goes beyond what was asked for."""
    return (both.before, both.until) != (wanted.before, wanted.until)


def revocation_in(change: Change) -> Revocation | None:
    """Return what a topic revokes; None if it has no value, or cannot revoke anything."""
    return revocation_of(Record(change.topic, change.version, None if change.deleted else encode_value(change.value)))


def for_administrators(error: RequestError, nothing: str = "") -> RequestError:
    """Return an error of a node that says what to do: to be an administrator, or to repeat what changed nothing."""
    text = f"{nothing}: {error.message}" if nothing else error.message
    if isinstance(error, Denied) and error.why is None:
        text = f"{text.rstrip('.')}. It takes `admin`: a token to which the policy file gives admin = true"
    elif isinstance(error, TryLater) and nothing:
        text = f"{text.rstrip('.')}. Repeat the command"
    return type(error)(text, why=error.why)


@dataclass(frozen=True)
class _Topic:
    """The topic of a revocation, at a node, until `ends` by Trio's clock."""

    client: Client
    name: str
    timeout_s: float
    ends: float

    async def read(self) -> tuple[Revocation | None, int | None]:
        """Return what it revokes now, and the version to expect: None for one that is damaged, and so without end."""
        left_s = math.ceil(max(self.ends - trio.current_time(), READ_S_MIN) * 1_000) / 1_000
        try:
            change = await self.client.get(self.name, timeout_s=left_s)
        except Unreadable:
            return Revocation(self.name), None
        if change is None or change.deleted:
            return None, 0
        # A topic that names nothing has no revocation, but may be deleted.
        return revocation_in(change) or Revocation(self.name), change.version

    async def publish(self, revocation: Revocation, expect: int | None) -> int:
        return await self._settled(self.client.publish_soon(self.name, revocation.value(), expect=expect))

    async def delete(self, expect: int | None) -> int:
        return await self._settled(self.client.delete_soon(self.name, expect=expect))

    async def _settled(self, receipt: Receipt) -> int:
        with trio.move_on_at(self.ends):
            return (await receipt.wait()).version
        refusal = refusal_of(receipt)
        if refusal is not None:
            raise refusal
        raise OutcomeUnknown(f"not acknowledged within {self.timeout_s:g} s")


@asynccontextmanager
async def _topic(name: str, nodes: Nodes, done: str) -> AsyncIterator[_Topic]:
    """Open a client for one topic; errors of the block say that nothing was done, or that it may have been."""
    try:
        async with connected(nodes.urls, nodes.credentials, push=False) as client:
            yield _Topic(client, name, nodes.timeout_s, trio.current_time() + nodes.timeout_s)
    except OutcomeUnknown as error:
        raise OutcomeUnknown(
            f"{str(error).rstrip('.')}: it may be {done} or not. Repeat the command: that does no harm"
        ) from None
    except RequestError as error:
        raise for_administrators(error, f"nothing was {done}") from None


def _contended(done: str) -> Failure:
    return Failure(f"nothing was {done}: others changed it {TRIES} times meanwhile. Repeat the command", CONFLICT)
