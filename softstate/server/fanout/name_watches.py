"""Long polls that wait for a change of any of their names; the hub wakes them once it has passed one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import final

from softstate.names import reaching


@final
class NameWatch:
    """One who waits. `woken` is called once, `failed` if a bug ends that call."""

    __slots__ = ("after", "failed", "names", "woken")

    def __init__(
        self, names: Collection[str], after: int, woken: Callable[[], None], failed: Callable[[], None]
    ) -> None:
        self.names = names
        self.after = after
        self.woken = woken
        self.failed = failed


@final
class NameWatches:
    """Topics and prefixes, and who waits for a change of them above a revision."""

    def __init__(self) -> None:
        self.names = 0
        """The names of all who wait, counted once for each of them."""
        self._waiting: dict[str, dict[NameWatch, None]] = {}
        self._woken: dict[NameWatch, None] = {}

    def add(self, watch: NameWatch) -> None:
        """Wait for a change of any of the names of `watch`."""
        waiting = self._waiting
        for name in watch.names:
            waiting.setdefault(name, {})[watch] = None
        self.names += len(watch.names)

    def drop(self, watch: NameWatch) -> None:
        """Wait no longer. Idempotent."""
        self._woken.pop(watch, None)
        self._remove(watch)

    def note(self, topic: str, version: int) -> None:
        """Note a change: those who wait for it are among `take_woken` from now on."""
        if not self._waiting:
            return
        for name in (topic, *reaching(topic)):
            watches = self._waiting.get(name)
            if watches is not None:
                for watch in [watch for watch in watches if watch.after < version]:
                    self._wake(watch)

    def wake_all(self) -> None:
        """Have all who wait be among `take_woken`."""
        for watch in list(dict.fromkeys(watch for watches in self._waiting.values() for watch in watches)):
            self._wake(watch)

    def take_woken(self) -> list[NameWatch]:
        """Return those whose change was noted, to be called now."""
        if not self._woken:
            return []
        woken, self._woken = self._woken, {}
        return list(woken)

    def _wake(self, watch: NameWatch) -> None:
        self._remove(watch)
        self._woken[watch] = None

    def _remove(self, watch: NameWatch) -> None:
        names, watch.names = watch.names, ()
        self.names -= len(names)
        for name in names:
            watches = self._waiting[name]
            del watches[watch]
            if not watches:
                del self._waiting[name]
