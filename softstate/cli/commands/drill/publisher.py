"""The publisher of a drill: it publishes all topics in turn, and records each acknowledgement in the ledger."""

from __future__ import annotations

import time

import trio

from softstate.cli.commands.drill.ledger import Ledger
from softstate.cli.commands.drill.plan import Plan
from softstate.client.api.client import Client
from softstate.errors import Overloaded, SoftstateError

CLEAN_S_MAX = 10.0
"""Longest time to delete the published topics; topics left then stay."""


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

    async def clean(self) -> None:
        """Delete every topic, within `CLEAN_S_MAX`."""
        with trio.move_on_after(CLEAN_S_MAX, shield=True):
            for name in self._plan.names:
                try:
                    await self._client.delete(name)
                except SoftstateError:
                    return

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
