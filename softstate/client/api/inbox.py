"""The inbox of each handle: pending changes, at most one a topic, and what else the machine has for it.

A newer change takes the place of the older one of its topic, where it is. So memory is bounded by the number of topics,
however slowly the application reads. Several handles may want the same name; the client wants it as long as one does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, final

from softstate.client.machine.events import (
    Deliver,
    Event,
    ModeChanged,
    NamesDenied,
    Narrowing,
    NodeRefused,
    Reset,
    TopicsUnreadable,
    Unwanted,
    Wanted,
)
from softstate.errors import Denied, SoftstateError
from softstate.model import Change
from softstate.names import covered, reaching

UpdateEvent: TypeAlias = Change | Reset | ModeChanged | NodeRefused | TopicsUnreadable
"""One of the things that `Updates.events` yields."""

NAMES_SHOWN = 10
"""How many denied names an error lists."""

_MODE = 0
_DAMAGED = -1
_Key: TypeAlias = str | int | tuple[str]
"""A topic, `_MODE`, the number of a reset, or the URL of a node that refuses."""


@final
class Inbox:
    """Holds what one handle has not taken yet.

    `wake` is called whenever there may be something to take, or to raise; it must not call back.
    """

    def __init__(self, names: Iterable[str], wake: Callable[[], None], *, narrow: bool = False) -> None:
        self.names = dict.fromkeys(names)
        self.narrow = narrow
        """Whether the names below a denied prefix that may be read take its place."""
        self.denied: list[str] = []
        self._below: dict[str, None] = {}  # what may be read below them
        self.reset_count = 0
        self.closed = False
        # A plain dict that is emptied from the front looks at all that has gone before it finds its first.
        self._pending: OrderedDict[_Key, UpdateEvent] = OrderedDict()
        self._resets_pending = 0
        self._denial: Denied | None = None
        self._end: SoftstateError | None = None
        self._wake = wake

    # The application's side ------------------------------------------------------------------------------------------

    def take(self) -> UpdateEvent | None:
        """Take the next event; None if there is none yet.

        Raises StopAsyncIteration when closed, a denial that was not raised yet, or what ended the client.
        """
        self._raise_denial()
        if not self._pending:
            if self.closed:
                raise StopAsyncIteration
            self.raise_if_over()
            return None
        event = self._pending.popitem(last=False)[1]
        self._resets_pending -= isinstance(event, Reset)
        return event

    @property
    def pending(self) -> bool:
        """Whether an event waits to be taken."""
        return bool(self._pending)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to take, and nothing to raise."""
        return not (self._pending or self.closed or self._end or self._denial)

    def raise_if_over(self) -> None:
        """Raise a denial that was not raised yet, or the error that ended the client."""
        self._raise_denial()
        if self._end is not None:
            raise self._end.with_traceback(None)

    def _raise_denial(self) -> None:
        if self._denial is not None:
            denial = self._denial
            if self.names:
                self._denial = None
            raise denial.with_traceback(None)

    # The machine's side ----------------------------------------------------------------------------------------------

    def push(self, change: Change) -> None:
        """Take the newest state of a topic. It takes the place of an older one, but never ahead of a reset."""
        if self._resets_pending:
            self._pending.pop(change.topic, None)
        self._pending[change.topic] = change
        self._wake()

    def tell(self, event: Reset | ModeChanged | NodeRefused | TopicsUnreadable) -> None:
        """Take what became of the client."""
        match event:
            case Reset():
                self.reset(event)
            case ModeChanged():
                self.mode_changed(event)
            case NodeRefused():
                self.node_refused(event)
            case TopicsUnreadable():
                self.unreadable(event.topics)

    def reset(self, reset: Reset) -> None:
        """Take a change of history. Pending values are dropped: all of them follow again, or as deleted.

        Deletions stay, ahead of the reset: nothing will say again that a topic is gone which the new history does not
        have either. Resets with nothing between them become one, so that not even they can pile up.
        """
        self.reset_count += 1
        pending, self._pending = self._pending, OrderedDict()
        bare: _Key | None = None  # the last reset, as long as no deletion follows it
        for key, event in pending.items():
            if isinstance(event, Change):
                if not event.deleted:
                    continue
                bare = None
            elif isinstance(event, TopicsUnreadable):
                continue
            elif isinstance(event, Reset):
                self._remove(bare)
                bare = key
            self._pending[key] = event
        self._remove(bare)
        self._resets_pending = 1 + sum(isinstance(event, Reset) for event in self._pending.values())
        self._put(self.reset_count, reset)

    def mode_changed(self, change: ModeChanged) -> None:
        """Take the client's new mode; it comes behind all that is pending."""
        self._pending.pop(_MODE, None)
        self._put(_MODE, change)

    def node_refused(self, refusal: NodeRefused) -> None:
        """Take a node's refusal; it takes the place of an earlier one of that node."""
        self._put((refusal.url,), refusal)

    def unreadable(self, topics: Iterable[str]) -> None:
        """Take topics whose stored records are damaged; what is pending of them stays."""
        mine = [topic for topic in topics if not self.names.keys().isdisjoint((topic, *reaching(topic)))]
        if not mine:
            return
        pending = self._pending.get(_DAMAGED)
        if isinstance(pending, TopicsUnreadable):
            mine = list(dict.fromkeys([*pending.topics, *mine]))
        self._put(_DAMAGED, TopicsUnreadable(mine))

    def deny(self, names: Iterable[str], narrow: Mapping[str, Sequence[str]] | None = None) -> None:
        """Take note of names that were refused, and have the application told once.

        What is pending of them alone is dropped: nothing would tell of a later change. `narrow`: of some of these
        prefixes, names below them that it may read; if it is to narrow, these take their place, and it is not told.
        """
        narrow = narrow or {}
        refused = [name for name in names if name in self.names]
        if self.narrow:
            self.names.update(dict.fromkeys(below for name in refused for below in narrow.get(name, ())))
        for name in refused:
            del self.names[name]
        changed = [event.topic for event in self._pending.values() if isinstance(event, Change)]
        for topic in [topic for topic in changed if not covered(self.names, topic)]:
            del self._pending[topic]
        self.denied += refused
        if self.narrow and all(narrow.get(name) for name in refused):
            self._wake()
            return
        self._below.update(dict.fromkeys(below for name in refused for below in narrow.get(name, ())))
        instead = f"; you may read {_listed(list(self._below))}: subscribe to that" if self._below else ""
        refusal = f"the node refuses these names, or they exceed its limits: {_listed(self.denied)}"
        self._denial = Denied(refusal + instead)
        self._wake()

    def end(self, error: SoftstateError) -> None:
        """Raise `error` to the application, once it has taken what is pending."""
        self._end = self._end or error
        self._wake()

    def close(self) -> None:
        """Drop what is pending and let iterations end: the application has left the block of its handle."""
        self.closed = True
        self._pending.clear()
        self._resets_pending = 0
        self._wake()

    def _remove(self, key: _Key | None) -> None:
        if key is not None:
            del self._pending[key]

    def _put(self, key: _Key, event: UpdateEvent) -> None:
        self._pending[key] = event
        self._wake()


@final
class Inboxes:
    """All inboxes of a client, found by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[Inbox, None]] = {}
        self._all: dict[Inbox, None] = {}

    def add(self, inbox: Inbox) -> list[str]:
        """Add an inbox; return the names that no other one held."""
        self._all[inbox] = None
        new = [name for name in inbox.names if name not in self._by_name]
        for name in inbox.names:
            self._by_name.setdefault(name, {})[inbox] = None
        return new

    def remove(self, inbox: Inbox) -> list[str]:
        """Remove an inbox; return the names that none holds any more."""
        self._all.pop(inbox, None)
        freed = []
        for name in inbox.names:
            holders = self._by_name[name]
            del holders[inbox]
            if not holders:
                del self._by_name[name]
                freed.append(name)
        return freed

    def enter(
        self,
        inbox: Inbox,
        known: Callable[[str], Iterable[Change]],
        unreadable: Callable[[Iterable[str]], Iterable[str]],
    ) -> list[Event]:
        """Add an inbox, with what the machine knows of its names already; return what to tell the machine."""
        for name in inbox.names:
            for change in known(name):
                if change.version > 0 and not change.deleted:
                    inbox.push(change)
        inbox.unreadable(unreadable(inbox.names))
        new = self.add(inbox)
        told: list[Event] = [Narrowing(self.narrowing())] if inbox.narrow else []
        return [*told, Wanted(new)] if new else told

    def leave(self, inbox: Inbox) -> list[Event]:
        """Remove and close an inbox; return what to tell the machine: nothing if it was closed before."""
        if inbox.closed:
            return []
        freed = self.remove(inbox)
        told: list[Event] = [Narrowing(self.narrowing())] if inbox.narrow else []
        inbox.close()
        return [*told, Unwanted(freed)] if freed else told

    def perform(self, action: Deliver | Reset | ModeChanged | NodeRefused | TopicsUnreadable | NamesDenied) -> None:
        """Take an action of the machine that is meant for handles."""
        match action:
            case Deliver():
                self.deliver(action.changes)
            case NamesDenied():
                self.deny(action.names, action.narrow)
            case _:
                for inbox in self.all():
                    inbox.tell(action)

    def end(self, error: SoftstateError) -> None:
        """Raise `error` to the application in every handle, once it has taken what is pending."""
        for inbox in self.all():
            inbox.end(error)

    @property
    def hold_names(self) -> bool:
        """Whether any inbox holds any name."""
        return bool(self._by_name)

    def all(self) -> list[Inbox]:
        """Return every inbox."""
        return list(self._all)

    def deliver(self, changes: Iterable[Change]) -> None:
        """Push each change to each inbox that covers its topic, once."""
        above: dict[str, dict[Inbox, None]] = {}  # the topics of a page have few prefixes between them
        for change in changes:
            topic = change.topic
            parent = topic[: topic.rfind("/") + 1] or topic[:1]  # one that is `SPELT` has others than its siblings
            found = above.get(parent)
            if found is None:
                found = above[parent] = self._holders(reaching(topic))
            if topic in self._by_name:
                found = {**self._by_name[topic], **found}
            for inbox in found:
                inbox.push(change)

    def narrowing(self) -> frozenset[str]:
        """Return the names that an inbox would have narrowed."""
        return frozenset(name for inbox in self._all if inbox.narrow for name in inbox.names if name.endswith("/"))

    def deny(self, names: Iterable[str], narrow: Mapping[str, Sequence[str]] | None = None) -> None:
        """Take denied names from all inboxes that hold them; those that narrow hold what is below them instead."""
        told: dict[Inbox, list[str]] = {}
        for name in names:
            for inbox in self._by_name.pop(name, {}):
                told.setdefault(inbox, []).append(name)
        for inbox, refused in told.items():
            inbox.deny(refused, narrow)
            if inbox.narrow:
                for name in inbox.names:
                    self._by_name.setdefault(name, {})[inbox] = None

    def _holders(self, names: Iterable[str]) -> dict[Inbox, None]:
        found: dict[Inbox, None] = {}
        for name in names:
            found.update(self._by_name.get(name, {}))
        return found


def _listed(names: Sequence[str]) -> str:
    more = " and more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(map(repr, names[:NAMES_SHOWN])) + more
