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
from softstate.store.redis.errors import NO_STORE, OLD_LAYOUT, TAKES_NO_WRITES, explain, explained, missing, word_of
from softstate.store.redis.schema import LIBRARY, StoreState, function as name_of, must_be_replaced
from softstate.store.redis.url import RedisAddress
from softstate.store.rules.nonce import epoch_nonce, lineage_nonce

_NO_FUNCTION = "Function not found"


class RedisEngine:
    """Calls the library, and keeps the highest position seen. Every method raises what `Store.read` raises.

    `risen` is called when that position has risen.
    """

    def __init__(
        self, address: RedisAddress, random: Random, risen: Callable[[], None], *, create: bool, read_only: bool
    ) -> None:
        self.address = address
        self.connections = RedisConnections(address)
        self.seen = Position("", "", 0)
        """The highest position that this store has met on the history that it was opened on."""
        self.durability = Durability.WEAK
        self.warnings: Sequence[str] = ()
        self._random = random
        self._risen = risen
        self.create = create
        self.read_only = read_only
        self.row_due = False
        """Whether the lineage row of the last opening is still to be committed."""
        self._not_begun = ""
        self._openings = 0
        self._probed_connection = 0
        self._probed_at = -math.inf

    @property
    def unwritten(self) -> str:
        """The reason why the lineage row of the last opening is still to be committed; empty if it is not."""
        return self._not_begun if self.row_due else ""

    async def open(self) -> Position | None:
        """See that the library is there, commit a lineage row, and return it; None if the store has layout 1.

        Makes a new store if there is none and that is allowed. If the server takes no writes just now, returns the
        newest position; `commit_row` is to be called before the first change. Raises `Unavailable`, `StoreRefused` or
        `StoreMissing`.
        """
        with explained(self.address.name, opening=True):
            await self.connections.within(self._load_library)
            state = await self.connections.within(self._claim)
            if state is None:
                return None
            await self.connections.within(self._probe)
        return self.begin_at(state.position)

    async def _claim(self) -> StoreState | None:
        """Commit a lineage row, in a new store if there is none; None if the store has layout 1."""
        image, epoch = lineage_nonce(self._random), epoch_nonce(self._random)
        made = (image, epoch) if self.create else ()
        try:
            if self.read_only:
                (answer,) = await self._send_as(b"FCALL_RO", "look")
            else:
                (answer,) = await self._send_as(b"FCALL", "open", *made)
            self.row_due = False
        except ResponseError as error:
            word = word_of(error)
            if word == OLD_LAYOUT and not self.read_only:
                return None
            if word == NO_STORE:
                raise missing(self.address.name) from error
            if word not in TAKES_NO_WRITES:
                raise
            (answer,) = await self._send_as(b"FCALL_RO", "look")
            self.row_due = True
            self._not_begun = str(explain(error, self.address.name, opening=False))
        return StoreState.read(answer)

    async def _send_as(self, command: bytes, function: str, *arguments: str) -> Any:
        return await self.connections.send(command, name_of(function), 1, self.address.namespace, *arguments)

    async def commit_row(self) -> None:
        """Commit the lineage row of an opening that could not, before the first change. Raises as `ask` does."""
        if not self.row_due:
            return
        with explained(self.address.name):
            (answer,) = await self.connections.within(lambda: self._send_as(b"FCALL", "open"))
        state = StoreState.read(answer)
        self.row_due = False
        if state.position.revision > self.seen.revision:
            self.seen = state.position
            self._risen()

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
        arguments = (name_of(function), 1, self.address.namespace, *arguments)

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
