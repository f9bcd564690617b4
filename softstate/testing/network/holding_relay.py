"""A relay between a client and a node that holds back what the node sends, and lets it through in bursts."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import final

import trio

from softstate.testing.network.network import SimNetwork
from softstate.testing.network.proxy import PORT
from softstate.testing.network.stream import SimStream

BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""Errors of an end that broke: the other notices by itself."""


@final
class HoldingRelay:
    """Listens at `name` for the node at `to` while `run` runs; holds each burst back for `hold_s` at most."""

    def __init__(self, network: SimNetwork, name: str, to: str, random: Random, hold_s: float) -> None:
        self.url = f"ws://{name}:{PORT}"
        self.bursts = 0
        self._network = network
        self._name = name
        self._to = to
        self._random = random
        self._hold_s = hold_s

    async def run(self) -> None:
        """Serve until cancelled."""
        await trio.serve_listeners(self._serve, [self._network.listen(self._name, PORT)])

    async def _serve(self, client: SimStream) -> None:
        try:
            node = await self._network.open_stream(self._name, self._to, PORT)
        except OSError:
            client.close()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pass, client, node, nursery.cancel_scope)
            nursery.start_soon(self._hold, node, client, nursery.cancel_scope)
        client.close()
        node.close()

    async def _pass(self, source: SimStream, sink: SimStream, both: trio.CancelScope) -> None:
        with suppress(*BROKEN):
            while data := await source.receive_some():
                await sink.send_all(data)
        both.cancel()

    async def _hold(self, source: SimStream, sink: SimStream, both: trio.CancelScope) -> None:
        held = bytearray()
        some, ended = trio.Event(), False

        async def fill() -> None:
            nonlocal ended
            with suppress(*BROKEN):
                while data := await source.receive_some():
                    held.extend(data)
                    some.set()
            ended = True
            some.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fill)
            with suppress(*BROKEN):
                while held or not ended:
                    await some.wait()
                    some = trio.Event()
                    await trio.sleep(self._random.uniform(0, self._hold_s))
                    data, self.bursts = bytes(held), self.bursts + 1
                    held.clear()
                    await sink.send_all(data)
            nursery.cancel_scope.cancel()
        both.cancel()
