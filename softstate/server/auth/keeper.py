"""The keeper: has an authority's keys fetched when its keyrings say so, and its files read again when they change."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar, final

import structlog
import trio

from softstate.auth.authority import RulesAuthority
from softstate.auth.keyring import Key, Keyring
from softstate.auth.policy_file import KeySource
from softstate.errors import ConfigError
from softstate.http_client.streams import OpenStream, open_tcp
from softstate.server.auth.callout import CalloutShell
from softstate.server.auth.key_sets import FetchFailed, fetch_keys
from softstate.server.auth.policy_files import LoadedPolicy, load_policy, stamps_of
from softstate.server.bulkhead import RETRY_S, Bulkhead

LOOK_S = 5.0
"""Time between two looks at the files: whether they have changed."""


T = TypeVar("T")
Argument = TypeVar("Argument")


class InThread(Protocol):
    """Calls a function that reads files, without stopping the loop for a disk that hangs."""

    async def __call__(self, function: Callable[[Argument], T], argument: Argument, /) -> T:
        """Return what it returns."""


WAIT_S_MIN = 0.001
"""Least time between two looks at what is due: waits end by another clock than keyrings count by."""

STILL_S = 0.5
"""Time for which a file that has changed must stay as it is: half of one may be a policy too, with fewer rules."""

log = structlog.get_logger("softstate.auth")


@final
class PolicyKeeper:
    """Keeps one authority up to date: its policy file, the files of its keys, and the keys of its issuers.

    What cannot be read or fetched leaves what is there. `beside` names keys of the file that are for others.
    """

    def __init__(
        self,
        path: Path,
        now: Callable[[], float],
        bulkhead: Bulkhead,
        *,
        open_stream: OpenStream = open_tcp,
        in_thread: InThread = trio.to_thread.run_sync,
        beside: Collection[str] = (),
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._load = partial(load_policy, beside=beside)
        self._now = now
        self._bulkhead = bulkhead
        self._open_stream = open_stream
        self._in_thread = in_thread
        self._loaded = self._load(path)
        self._seen = self._loaded.files
        self.authority = RulesAuthority(self._loaded.policy, self._loaded.keyrings)
        self._woken = trio.Event()
        self._asked = trio.Event()
        self._callout = CalloutShell(self.authority, lambda: self._loaded.secret, now, wall, bulkhead, open_stream)
        self._watch()
        self._tell(self._loaded)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch and look until cancelled. It has started once each issuer was asked once, and answered or failed."""
        async with trio.open_nursery() as nursery:
            with self._bulkhead.contain("keys"):
                async with trio.open_nursery() as first:
                    self._begin_due(first)
            task_status.started()
            nursery.start_soon(self._look)
            nursery.start_soon(self._callout.run)
            while True:
                with self._bulkhead.contain("keys") as round_:
                    self._woken = trio.Event()
                    self._begin_due(nursery)
                    await self._until_due()
                if round_.failed:
                    await trio.sleep(RETRY_S)

    def reload_soon(self) -> None:
        """Have the files read again soon, without waiting for them to stay as they are: who asks has written them."""
        self._asked.set()

    async def reload(self) -> None:
        """Read the files again. Raises `ConfigError`; then all stays as it is."""
        loaded = await self._in_thread(self._load, self._path)
        before, self._loaded = self._loaded, loaded
        self._seen = loaded.files
        keyrings = {
            issuer: self.authority.keyrings[issuer]
            if source.fetched and before.sources.get(issuer) == source
            else loaded.keyrings[issuer]
            for issuer, source in loaded.sources.items()
        }
        self.authority.change(loaded.policy, keyrings)
        self._callout.wake()
        self._watch()
        self._tell(loaded)
        self._wake()

    # Fetching -------------------------------------------------------------------------------------------------------

    def _begin_due(self, nursery: trio.Nursery) -> None:
        now = self._now()
        for issuer, keyring in self.authority.keyrings.items():
            if keyring.due_at <= now:
                keyring.began(now)
                nursery.start_soon(self._fetch, issuer, keyring, self._loaded.sources[issuer])

    async def _until_due(self) -> None:
        due_s = min((ring.due_at for ring in self.authority.keyrings.values()), default=math.inf) - self._now()
        with trio.move_on_after(max(WAIT_S_MIN, due_s)):
            await self._woken.wait()

    async def _fetch(self, issuer: str, keyring: Keyring, source: KeySource) -> None:
        with self._bulkhead.contain("keys", partial(keyring.failed, "an error of this node")):
            try:
                keys, problems = await fetch_keys(issuer, source, self._open_stream)
            except FetchFailed as error:
                if not keyring.failure:
                    log.warning("keys not fetched", issuer=issuer, because=str(error), keys=_names(keyring))
                self._note_failed(issuer, keyring, str(error))
            else:
                self._take(issuer, keyring, keys, problems)
        self._wake()

    def _take(self, issuer: str, keyring: Keyring, keys: Sequence[Key], problems: list[str]) -> None:
        before = _names(keyring)
        if self.authority.keyrings.get(issuer) is not keyring:
            return  # the policy has changed meanwhile
        self.authority.got(issuer, keys, self._now())
        if _names(keyring) != before:
            log.info("keys changed", issuer=issuer, keys=_names(keyring), not_taken=problems)

    def _note_failed(self, issuer: str, keyring: Keyring, why: str) -> None:
        if self.authority.keyrings.get(issuer) is not keyring:
            keyring.failed(why)
            return
        generation = self.authority.generation
        self.authority.failed(issuer, why, self._now())
        if self.authority.generation != generation:
            log.error("keys too old", issuer=issuer, because=why)

    def _watch(self) -> None:
        for keyring in self.authority.keyrings.values():
            keyring.on_sooner = self._wake

    def _wake(self) -> None:
        self._woken.set()

    # Files ----------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        while True:
            with trio.move_on_after(LOOK_S):
                await self._asked.wait()
            asked, self._asked = self._asked.is_set(), trio.Event()
            with self._bulkhead.contain("policy file"):
                seen = await self._in_thread(stamps_of, self._loaded.files)
                if asked:
                    self._seen = seen
                    await self._reload_or_tell()
                while seen != self._seen:
                    before = seen
                    await trio.sleep(STILL_S)
                    seen = await self._in_thread(stamps_of, self._loaded.files)
                    if seen == before:
                        self._seen = seen
                        await self._reload_or_tell()
                        break

    async def _reload_or_tell(self) -> None:
        try:
            await self.reload()
        except ConfigError as error:
            log.warning("policy not changed", because=str(error))

    def _tell(self, loaded: LoadedPolicy) -> None:
        for problem in loaded.problems:
            log.warning("key not taken", because=problem)
        log.info(
            "rules in force",
            generation=self.authority.generation,
            issuers=len(loaded.policy.issuers),
            tokens=len(loaded.policy.tokens),
            rules=len(loaded.policy.allows),
            limits=len(loaded.policy.limits),
        )


def _names(keyring: Keyring) -> list[str | None]:
    return [key.id for key in keyring.keys]
