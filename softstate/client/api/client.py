"""The client as an application sees it: the `Client` that `connect` gives.

::

    async with softstate.connect("ws://127.0.0.1:8700") as client:
        async with client.subscribe("orders/42", "prices/") as updates:
            async for change in updates:              # newest value per topic, never a backlog
                print(change.topic, change.version, change.value, updates.age, client.mode)

A client never fails because a node does. It uses the path that works (push, polling, another node), and says at
any moment how old its knowledge may be: `Updates.age`. It raises only errors that waiting does not mend: refused
credentials.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import final

import anyio

from softstate.client.api.arguments import check_key, check_seconds, check_version, name_of, prefix_of, topic_of
from softstate.client.api.dispatcher import Dispatcher
from softstate.client.api.inbox import Inbox
from softstate.client.api.receipt import Receipt
from softstate.client.api.updates import Updates
from softstate.client.machine.events import Narrowing, PublishDropped, PublishRequested, Unwanted, Wanted
from softstate.client.machine.state import Statistics
from softstate.client.requests.reading import Listing
from softstate.client.shell.bell import Bell
from softstate.client.shell.clock import Clock
from softstate.client.shell.reader import Reader
from softstate.client.shell.shell import Driven, Shell
from softstate.errors import ClientClosed, Invalid, RequestError, SoftstateError
from softstate.model import Change, Mode, Value
from softstate.position import Position
from softstate.wire import decode_value, encode_value

READ_TIMEOUT_S = 10.0
"""How long reads over HTTP try, unless told otherwise."""


@final
class Client:
    """A client of one or more nodes of one store. `connect` makes these.

    All methods are for the loop, Trio's or asyncio's, in which its block was entered.
    """

    def __init__(self, machine: Driven, shell: Shell, dispatcher: Dispatcher, reader: Reader, clock: Clock) -> None:
        self._machine = machine
        self._shell = shell
        self._dispatcher = dispatcher
        self._reader = reader
        self._clock = clock

    # State ----------------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """The client's mode: connecting, syncing, live, suspect, polling, offline, stopped or closed."""
        return self._machine.mode

    @property
    def age(self) -> float:
        """The greatest age of all its subscriptions, in seconds, as of now (see `Updates.age`)."""
        return self._machine.age(self._clock.now())

    @property
    def position(self) -> Position | None:
        """The newest point of the store's history that the client has heard of, None before the first answer."""
        return self._machine.position

    @property
    def last_error(self) -> SoftstateError | None:
        """The newest failure, whether waiting mends it or not; None so far. Its text says what to do.

        A connection that could not be made, or was lost, and a poll that got no answer, are `softstate.Unavailable`;
        what a node refused is the error that it answered with, and what the token provider failed with, that. The
        client goes on all the same, with other requests and other nodes; `Updates.events` tells once, as `NodeRefused`,
        what a node refuses. The logger ``softstate.client`` of `logging` has the reason of each change of mode.
        """
        return self._machine.newest_error

    @property
    def bound_s(self) -> float:
        """The age, in seconds, that knowledge reaches at most while all is well: what `max_age` is to be measured by.

        A node that is silent for longer is asked, and then another one. It follows from how often the node beats, or
        else renews, or is polled; so it is greater while the client has no lease.
        """
        return self._machine.bound_s

    def __repr__(self) -> str:
        return f"<softstate.Client {self._machine.url or 'without a node yet'}, {self.mode}, age {self.age:.1f} s>"

    def statistics(self) -> Statistics:
        """Return counters of what happened so far: repairs by kind, reconnects, polls, resets, drops."""
        return self._machine.statistics()

    def modes(self) -> AsyncIterator[Mode]:
        """Iterate over `mode`: the present one at once, then the newest whenever it is another. Ends when closed."""
        return _Modes(self, self._dispatcher.mode_changes)

    # Following topics ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def subscribe(self, *names: str, narrow: bool = False) -> AsyncIterator[Updates]:
        """Follow topics (``orders/42``) and prefixes (``prices/``, or ``/`` for everything) for as long as the block.

        What is known of a name already, because another handle is on it, is there at once.

        A prefix of which only a part may be read is denied. With `narrow`, the names below it that may be read take its
        place, when it is asked for and whenever rules change, without an error: 16 at most, and none for patterns with
        a ``*``. `Updates.names` tells which are followed, `Updates.denied` the prefixes that they stand for; topics of
        which nothing more is told stay as they were. The prefix is not asked for again when rules allow it: subscribe
        again for that. A prefix below which nothing may be read is `softstate.Denied` all the same.

        Raises `softstate.Invalid` for a malformed name or none at all, and what iterating raises if the client is
        closed or was stopped.
        """
        for name in names:
            name_of(name)
        if not names:
            raise Invalid("subscribe needs at least one topic or prefix")
        await anyio.lowlevel.checkpoint()
        self._dispatcher.raise_if_over()
        inboxes, bell = self._dispatcher.inboxes, Bell()
        inbox = Inbox(names, bell.ring, narrow=narrow)
        for name in inbox.names:
            for change in self._machine.known(name):
                if change.version > 0 and not change.deleted:
                    inbox.push(change)
        inbox.unreadable(self._machine.unreadable(inbox.names))
        new = inboxes.add(inbox)
        if narrow:
            self._shell.handle(Narrowing(inboxes.narrowing()))
        if new:
            self._shell.handle(Wanted(new))
        try:
            yield Updates(inbox, bell, self._dispatcher.progress, self._age_of, self._machine.unreadable)
        finally:
            freed = inboxes.remove(inbox)
            if narrow:
                self._shell.handle(Narrowing(inboxes.narrowing()))
            if freed:
                self._shell.handle(Unwanted(freed))
            inbox.close()
            self._dispatcher.progress.ring()

    # Publishing ------------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, value: Value, *, expect: int | None = None, key: str | None = None) -> int:
        """Set a topic's value; return its version once it is durable.

        With `expect`, only if the topic is at that version now (0: if it does not exist). `key` is an idempotency key:
        publishing again with the same key, also from another client, has no further effect and returns the first
        version, for as long as nodes remember it (10 minutes by default). Without one, the publish has a number of this
        client, which does the same for what the client itself sends again.

        It is sent again for as long as it takes to get an answer. Raises `softstate.Conflict`,
        `softstate.Invalid`, `softstate.TooLarge`, `softstate.Denied`, `softstate.KeyReused`, `softstate.Overloaded`
        (too many are waiting here), `softstate.OutcomeUnknown` (it may have been applied, and was not answered for as
        long as stores remember it, or is refused unseen since), `softstate.ClientClosed` (it says whether the publish
        may have been applied). Any other error means that it was not applied. If cancelled, it may or may not be.
        """
        return await self._finish(self.publish_soon(topic, value, expect=expect, key=key))

    async def delete(self, topic: str, *, expect: int | None = None, key: str | None = None) -> int:
        """Delete a topic; return the version of its tombstone. Everything else is as for `publish`.

        A topic that has no value is left as it is: that returns the version of the tombstone that is kept, else 0.
        """
        return await self._finish(self.delete_soon(topic, expect=expect, key=key))

    def publish_soon(self, topic: str, value: Value, *, expect: int | None = None, key: str | None = None) -> Receipt:
        """Begin to publish, and return at once. Publishes of one topic are applied in the order of these calls.

        This is how to have many on their way at once. Raises `softstate.Invalid`, `softstate.ClientClosed`, and
        `softstate.TooLarge` for a value above the node's limit (64 KiB by default), which would only cost the
        connection. The rest comes from `Receipt.wait`.
        """
        topic_of(topic)
        cbor = encode_value(value, self._machine.value_bytes_max)
        if isinstance(value, dict | list):
            value = decode_value(cbor)  # the application may change its own while this waits to be sent
        return self._ask(topic, value, cbor, deleted=False, expect=expect, key=key)

    def delete_soon(self, topic: str, *, expect: int | None = None, key: str | None = None) -> Receipt:
        """Begin to delete, and return at once; as `publish_soon`."""
        return self._ask(topic, None, b"", deleted=True, expect=expect, key=key)

    def _ask(
        self, topic: str, value: Value, cbor: bytes, *, deleted: bool, expect: int | None, key: str | None
    ) -> Receipt:
        topic_of(topic)
        check_version(expect, "expect")
        check_key(key)
        self._dispatcher.raise_if_over()
        ticket, outcome = self._dispatcher.new_publish()
        wire_bytes = len(self._shell.codec.value(cbor)) if cbor else 0
        self._shell.handle(PublishRequested(ticket, topic, value, deleted, expect, key, len(cbor), wire_bytes))
        return Receipt(outcome, partial(self._drop, ticket), partial(self._refusal, ticket))

    async def _finish(self, receipt: Receipt) -> int:
        try:
            return (await receipt.wait()).version
        finally:
            receipt.drop()

    def _refusal(self, ticket: int) -> RequestError | None:
        return self._machine.refusal(ticket)

    def _drop(self, ticket: int) -> None:
        if self._dispatcher.drop_publish(ticket):
            self._shell.handle(PublishDropped(ticket))

    # Reading ---------------------------------------------------------------------------------------------------------

    async def get(self, topic: str, *, at_least: int | None = None, timeout_s: float = READ_TIMEOUT_S) -> Change | None:
        """Read one topic from a node, without subscribing.

        With `at_least`, a version, the answer is no older than that on whichever node: give it the version that
        `publish` returned to read your own write. Returns None for a topic of which nothing is known, and a change
        that says `deleted` if its tombstone is. Other nodes are tried when one fails or keeps silent: each has its part
        of `timeout_s`, a second at least. When it is over, raises `softstate.Unavailable`; with `at_least` a second
        later, so that a node which waits as long can say `softstate.Behind`. Always safe to cancel.
        """
        topic_of(topic)
        check_version(at_least, "at_least")
        check_seconds(timeout_s)
        self._dispatcher.raise_if_over()
        return await self._reader.get(topic, at_least, timeout_s)

    async def status(self, *, timeout_s: float = READ_TIMEOUT_S) -> dict[str, Value]:
        """Return a node's account of what it holds, for people: its fields may change from version to version.

        Raises `softstate.Unavailable` when `timeout_s` is over.
        """
        check_seconds(timeout_s)
        self._dispatcher.raise_if_over()
        return await self._reader.status(timeout_s)

    async def list(self, prefix: str, *, timeout_s: float = READ_TIMEOUT_S) -> Listing:
        """Read all topics below a prefix (``/``: all there are), sorted by name. Raises and retries as `get` does.

        Topics whose stored records are damaged are left out; the list has their names as `unreadable`.
        """
        prefix_of(prefix)
        check_seconds(timeout_s)
        self._dispatcher.raise_if_over()
        return await self._reader.listing(prefix, timeout_s)

    # Closing ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the client, as leaving the block of `connect` does: tasks that wait for it get `ClientClosed`."""
        try:
            self._shell.close()
        finally:
            self._dispatcher.end(ClientClosed("the client was closed; what it had sent may be applied all the same"))

    def _age_of(self, names: Iterable[str]) -> float:
        return self._machine.age(self._clock.now(), names)


async def count_below(client: Client, prefix: str, most: int, timeout_s: float) -> int:
    """Count the topics below a prefix, up to `most` (1,024 at most). Raises and retries as `Client.get` does."""
    return await client._reader.count(prefix, most, timeout_s)  # noqa: SLF001 - no promise to applications


@final
class _Modes:
    """The iterator of `Client.modes`."""

    def __init__(self, client: Client, changes: Bell) -> None:
        self._client = client
        self._changes = changes
        self._last: Mode | None = None

    def __aiter__(self) -> AsyncIterator[Mode]:
        return self

    async def __anext__(self) -> Mode:
        await anyio.lowlevel.checkpoint()
        while self._client.mode == self._last:
            if self._last == "closed":
                raise StopAsyncIteration
            await self._changes.wait()
        self._last = self._client.mode
        return self._last
