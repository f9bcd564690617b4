"""The publisher of a drill: it publishes all topics in turn, and records each acknowledgement in the ledger."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import trio

from softstate.cli.commands.drill.ledger import Ledger
from softstate.cli.commands.drill.plan import Plan, token_of
from softstate.client.api.client import Client
from softstate.client.api.connect import connect
from softstate.errors import Overloaded, SoftstateError

CLEAN_S_MAX = 10.0
"""Longest time to delete the published topics; topics left then stay, and are named."""


class Publisher:
    """Publishes each topic of `plan` every `topic_every_s`. A value holds the time of its sending (CLOCK_MONOTONIC)."""

    def __init__(self, plan: Plan, client: Client, ledger: Ledger) -> None:
        self.published = 0
        self._plan = plan
        self._client = client
        self._ledger = ledger
        self._stopping = trio.Event()
        self._stopped = trio.Event()

    async def once(self) -> None:
        """Publish every topic once, so that there is something to follow."""
        for number in range(len(self._plan.names)):
            await self._publish(number)

    async def run(self) -> None:
        """Publish until `stop`."""
        async with trio.open_nursery() as nursery:
            for number in range(len(self._plan.names)):
                nursery.start_soon(self._keep_publishing, number)
        self._stopped.set()

    async def stop(self) -> None:
        """Begin no further publish, and return once every one is answered."""
        self._stopping.set()
        await self._stopped.wait()

    async def _keep_publishing(self, number: int) -> None:
        every_s = self._plan.topic_every_s
        due_s = trio.current_time() + every_s * number / len(self._plan.names)
        while True:
            with trio.move_on_at(due_s):
                await self._stopping.wait()
                return
            await self._publish(number)
            due_s = max(due_s + every_s, trio.current_time())

    async def _publish(self, number: int) -> None:
        sent_s = time.monotonic()
        self.published += 1
        try:
            version = await self._client.publish(self._plan.names[number], {"sent_s": sent_s})
        except Overloaded:
            self.published -= 1  # refused, not begun
            return
        self._ledger.acknowledge(number, version, sent_s, time.monotonic())


async def clean(urls: Sequence[str], plan: Plan) -> Sequence[str]:
    """Delete the topics of a drill, within `CLEAN_S_MAX` and also when cancelled; return those that may be left.

    This takes a client of its own: that of a drill that has failed, or is cancelled, sends nothing any more. A publish
    may have been under way then, so it looks whether the topics are gone.
    """
    left: Sequence[str] = plan.names
    with trio.move_on_after(CLEAN_S_MAX, shield=True), suppress(SoftstateError):
        async with connect(urls, name="softstate drill", push=False, token=token_of(plan.token_file)) as client:
            while left:
                for name in left:
                    await client.delete(name)
                held = {change.topic for change in await client.list(plan.prefix)}
                left = [name for name in plan.names if name in held]
    return left
