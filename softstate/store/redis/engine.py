"""One store's view of a Redis server: connections, the library there, the highest position seen, and durability."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import trio
from coredis.exceptions import AuthorizationError, ResponseError, UnknownCommandError

from softstate.model import Durability
from softstate.position import Position
from softstate.store.limits import PROBE_EVERY_S
from softstate.store.redis.connection import RedisConnections
from softstate.store.redis.durability import INFO_SECTIONS, SETTINGS, judge_durability, read_info
from softstate.store.redis.errors import explained
from softstate.store.redis.schema import LIBRARY, StoreState, must_be_replaced
from softstate.store.redis.url import RedisAddress
from softstate.store.rules.nonce import epoch_nonce, lineage_nonce

_NO_FUNCTION = "Function not found"


class RedisEngine:
    """Calls the library, and keeps the highest position seen. Every method raises what `Store.read` raises.

    `risen` is called when that position has risen.
    """

    def __init__(self, address: RedisAddress, random: Random, risen: Callable[[], None]) -> None:
        self.address = address
        self.connections = RedisConnections(address)
        self.seen = Position("", "", 0)
        """The highest position that this store has met on the history that it was opened on."""
        self.durability = Durability.WEAK
        self.warnings: Sequence[str] = ()
        self._random = random
        self._risen = risen
        self._openings = 0
        self._probed_connection = 0
        self._probed_at = -math.inf

    async def open(self) -> Position:
        """See that the library is there, commit a lineage row, in a new store if there is none, and return it.

        Raises `Unavailable` or `StoreRefused`.
        """
        image, epoch = lineage_nonce(self._random), epoch_nonce(self._random)

        async def claim() -> StoreState:
            await self._load_library()
            (answer,) = await self.connections.send(b"FCALL", "softstate_open", 1, self.address.namespace, image, epoch)
            await self._probe()
            return StoreState.read(answer)

        with explained(self.address.name, opening=True):
            state = await self.connections.within(claim)
        return self.begin_at(state.position)

    def begin_at(self, position: Position) -> Position:
        """Take a position as the one seen, and forget earlier ones."""
        self._openings += 1
        self.seen = position
        self._risen()
        return position

    async def ask(self, function: str, *arguments: bytes | str | int, writes: bool = False) -> tuple[StoreState, Any]:
        """Call a function of the library with the position seen and these arguments; return its answer.

        Raises `StoreRewound` if that position is not on the history any more; the function has changed nothing then.
        """
        seen, opening = self.seen, self._openings
        state_answer, *found = await self.call(function, str(seen), *arguments, writes=writes)
        state = StoreState.read(state_answer)
        state.check(seen)
        if opening == self._openings and state.position.revision > self.seen.revision:
            self.seen = state.position
            self._risen()
        return state, found

    async def call(self, function: str, *arguments: bytes | str | int, writes: bool = True) -> Any:
        """Call a function of the library with these arguments."""
        command = b"FCALL" if writes else b"FCALL_RO"
        arguments = (f"softstate_{function}", 1, self.address.namespace, *arguments)

        async def once() -> Any:
            try:
                return await self.connections.send(command, *arguments)
            except ResponseError as error:
                # The library was deleted, or this is another server. Nothing has happened.
                if _NO_FUNCTION not in str(error):
                    raise
            await self._load_library()
            return await self.connections.send(command, *arguments)

        return await self.run(once)

    async def run(self, once: Callable[[], Any]) -> Any:
        """Make calls to the server, bounded in time and with its errors turned into ours."""
        with explained(self.address.name):
            return await self.connections.within(once)

    async def _load_library(self) -> None:
        try:
            revision, build = await self.connections.send(b"FCALL_RO", "softstate_library", 0)
        except ResponseError as error:
            if _NO_FUNCTION not in str(error):
                raise
        else:
            if not must_be_replaced(revision, build):
                return
        await self.connections.send(b"FUNCTION", "LOAD", "REPLACE", LIBRARY)

    async def probe_sometimes(self) -> None:
        """Check the durability again, if it is time or the server may be another."""
        if self._probed_connection != self.connections.made or trio.current_time() >= self._probed_at + PROBE_EVERY_S:
            await self.run(self._probe)

    async def _probe(self) -> None:
        self._probed_connection, self._probed_at = self.connections.made, trio.current_time()
        info = await self.connections.send(b"INFO", *INFO_SECTIONS)
        settings = None
        try:
            answer = await self.connections.send(b"CONFIG", "GET", *SETTINGS)
            settings = {name.decode(): value.decode() for name, value in answer.items()}
        except (AuthorizationError, UnknownCommandError):
            # Managed services keep CONFIG to themselves.
            pass
        self.durability, self.warnings = judge_durability(read_info(info), settings)
