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

import copy
import inspect
import itertools
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from random import Random
from typing import final

import anyio

from softstate.client.api.arguments import check_key, check_seconds, check_version, name_of, prefix_of, topic_of
from softstate.client.api.dispatcher import Dispatcher
from softstate.client.api.knowing import Known, check_age, known_of
from softstate.client.api.latest import Latest, Waiting
from softstate.client.api.receipt import Outcome, Receipt, dropped, refusal_of
from softstate.client.api.subscription import Subscription
from softstate.client.api.updates import Updates
from softstate.client.machine.events import PublishDropped, PublishRequested
from softstate.client.machine.state import Statistics
from softstate.client.requests.reading import Listing
from softstate.client.shell.bell import Bell
from softstate.client.shell.clock import Clock
from softstate.client.shell.reader import Reader
from softstate.client.shell.shell import Driven, Shell
from softstate.errors import (
    ClientClosed,
    Conflict,
    Invalid,
    OutcomeUnknown,
    RequestError,
    SoftstateError,
    Stale,
    Unavailable,
    Unreadable,
)
from softstate.model import Change, Mode, Value
from softstate.names import reaching
from softstate.position import Position
from softstate.wire import decode_value, encode_value

LOGGER = logging.getLogger(__name__.rpartition(".api")[0])

UPDATE_BASE_S = 0.005
UPDATE_CAP_S = 1.0
"""An `update` that lost waits for a time from 0 to min(cap, base · 2^losses) before it tries again."""

FORKED = "this process is a child of fork(), whose client went on in the parent: connect again here"

READ_TIMEOUT_S = 10.0
"""How long reads over HTTP try, unless told otherwise."""


@final
class Client:
    """A client of one or more nodes of one store. `connect` makes these.

    All methods are for the loop, Trio's or asyncio's, in which its block was entered.
    """

    def __init__(
        self,
        machine: Driven,
        shell: Shell,
        dispatcher: Dispatcher,
        reader: Reader,
        clock: Clock,
        random: Random,
        max_age: float = math.inf,
    ) -> None:
        self._machine = machine
        self._shell = shell
        self._dispatcher = dispatcher
        self._reader = reader
        self._clock = clock
        self._random = random
        self._max_age = max_age
        self._latest = Latest()
        self._warned = max_age == math.inf
        dispatcher.after = self._after

    # State ----------------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        """The client's mode: connecting, syncing, live, suspect, polling, offline, stopped or closed.

        In a child of fork() it is closed: the connections are the parent's.
        """
        return "closed" if self._shell.forked else self._machine.mode

    @property
    def age(self) -> float:
        """The greatest age of all its subscriptions, in seconds, as of now (see `Updates.age`).

        Infinite without any: nothing is known then that could have an age.
        """
        return self._machine.age(self._clock.now()) if self._dispatcher.inboxes.hold_names else math.inf

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

    def subscribe(
        self,
        *names: str,
        narrow: bool = False,
        type: type | None = None,  # noqa: A002 - as others call it
    ) -> AbstractAsyncContextManager[Updates]:
        """Follow topics (``orders/42``) and prefixes (``prices/``, or ``/`` for everything) for as long as the block.

        What is known of a name already, because another handle is on it, is there at once.

        A prefix of which only a part may be read is denied. With `narrow`, the names below it that may be read take its
        place, when it is asked for and whenever rules change, without an error: 16 at most, and none for patterns with
        a ``*``. `Updates.names` tells which are followed, `Updates.denied` the prefixes that they stand for; topics of
        which nothing more is told stay as they were. The prefix is not asked for again when rules allow it: subscribe
        again for that. A prefix below which nothing may be read is `softstate.Denied` all the same.

        With `type`, values are converted to it, as `msgspec.convert` does for dataclasses, TypedDicts and msgspec's
        structs. One that does not fit is raised by the iteration as `softstate.Invalid`, once; it goes on behind that.

        Raises `softstate.Invalid` for a malformed name or none at all, and when the block is entered what iterating
        raises if the client is closed or was stopped.
        """
        for name in names:
            name_of(name)
        if not names:
            raise Invalid("subscribe needs at least one topic or prefix")
        return Subscription(names, narrow, type, self._machine, self._shell, self._dispatcher, self._clock)

    # Publishing ------------------------------------------------------------------------------------------------------

    async def publish(
        self,
        topic: str,
        value: Value,
        *,
        expect: int | None = None,
        key: str | None = None,
        timeout_s: float = math.inf,
    ) -> int:
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

        When `timeout_s` is over, it is no longer sent: that raises the error for which a node refused it, if it is
        certain that it was not applied, else `softstate.OutcomeUnknown`.
        """
        check_seconds(timeout_s)
        receipt = self.publish_soon(topic, value, expect=expect, key=key, each=True)
        return await self._finish(receipt, topic, timeout_s)

    async def create(self, topic: str, value: Value, *, key: str | None = None, timeout_s: float = math.inf) -> int:
        """Publish a topic that has no value yet; return its version. Raises `softstate.Conflict` if it has one."""
        return await self.publish(topic, value, expect=0, key=key, timeout_s=timeout_s)

    async def update(
        self, topic: str, change: Callable[[Value], Value | Awaitable[Value]], *, timeout_s: float = math.inf
    ) -> int:
        """Change a topic's value by compare-and-set; return its version.

        `change` gets a copy of the present value, None if there is none, and returns the next; it may be async. It is
        called again whenever another publisher was faster, so it should do nothing else. Raises what it raises, what
        `publish` raises but for `softstate.Conflict`, and when `timeout_s` is over `softstate.Unavailable`, or
        `softstate.OutcomeUnknown` if the last attempt may have been applied.
        """
        topic_of(topic)
        check_seconds(timeout_s)
        ends_s = anyio.current_time() + timeout_s
        state = self._newest(topic) if self._age_of_topic(topic) < math.inf else (await self.get(topic))
        for tries in itertools.count():
            present = None if state is None or state.deleted else state
            value = change(None if present is None else copy.deepcopy(present.value))
            if inspect.isawaitable(value):
                value = await value
            left_s = ends_s - anyio.current_time()
            try:
                expect = 0 if present is None else present.version
                return await self.publish(topic, value, expect=expect, timeout_s=max(left_s, 0.0))
            except Conflict as conflict:
                if anyio.current_time() >= ends_s:
                    text = f"others changed {topic!r} each of {tries + 1} times: nothing was applied; try again"
                    raise Unavailable(text) from None
                await anyio.sleep(self._random.uniform(0.0, min(UPDATE_CAP_S, UPDATE_BASE_S * 2.0 ** min(tries, 16))))
                state = await self.get(topic, at_least=conflict.current)
        raise AssertionError("unreachable")

    async def delete(
        self, topic: str, *, expect: int | None = None, key: str | None = None, timeout_s: float = math.inf
    ) -> int:
        """Delete a topic; return the version of its tombstone. Everything else is as for `publish`.

        A topic that has no value is left as it is: that returns the version of the tombstone that is kept, else 0.
        """
        check_seconds(timeout_s)
        return await self._finish(self.delete_soon(topic, expect=expect, key=key), topic, timeout_s)

    def publish_soon(
        self, topic: str, value: Value, *, expect: int | None = None, key: str | None = None, each: bool = False
    ) -> Receipt:
        """Begin to publish, and return at once. Publishes of one topic are applied in the order of these calls.

        The latest wins: while one of a topic is on its way, only the newest that was asked for behind it waits, and
        takes the place of the one that waited before; both receipts then tell the outcome of the newer one. So a topic
        may be published as often as it changes, and memory is bounded by topics. With `each`, `expect` or `key` every
        one is sent. An error of a receipt that nobody waits for is logged.

        This is how to have many on their way at once. Raises `softstate.Invalid`, `softstate.ClientClosed`, and
        `softstate.TooLarge` for a value above the node's limit (64 KiB by default), which would only cost the
        connection. The rest comes from `Receipt.wait`.
        """
        topic_of(topic)
        cbor = encode_value(value, self._machine.value_bytes_max)
        if isinstance(value, dict | list):
            value = decode_value(cbor)  # the application may change its own while this waits to be sent
        if each or expect is not None or key is not None:
            return self._ask(topic, value, cbor, deleted=False, expect=expect, key=key)
        self._raise_if_over()
        waiting = self._latest.add(topic, Outcome(topic), lambda outcome: self._submit(topic, value, cbor, outcome))
        return Receipt(waiting.outcome, partial(self._drop_latest, waiting), partial(self._refusal_of, waiting))

    def delete_soon(self, topic: str, *, expect: int | None = None, key: str | None = None) -> Receipt:
        """Begin to delete, and return at once; as `publish_soon`."""
        return self._ask(topic, None, b"", deleted=True, expect=expect, key=key)

    def _ask(
        self, topic: str, value: Value, cbor: bytes, *, deleted: bool, expect: int | None, key: str | None
    ) -> Receipt:
        topic_of(topic)
        check_version(expect, "expect")
        check_key(key)
        self._raise_if_over()
        self._latest.flush(topic)
        outcome = Outcome(topic)
        ticket = self._submit(topic, value, cbor, outcome, deleted=deleted, expect=expect, key=key)
        return Receipt(outcome, partial(self._drop, ticket), partial(self._refusal, ticket))

    def _submit(
        self,
        topic: str,
        value: Value,
        cbor: bytes,
        outcome: Outcome,
        *,
        deleted: bool = False,
        expect: int | None = None,
        key: str | None = None,
    ) -> int:
        ticket = self._dispatcher.new_publish(outcome)
        wire_bytes = len(self._shell.codec.value(cbor)) if cbor else 0
        self._shell.handle(PublishRequested(ticket, topic, value, deleted, expect, key, len(cbor), wire_bytes))
        return ticket

    async def _finish(self, receipt: Receipt, topic: str, timeout_s: float) -> int:
        try:
            with anyio.move_on_after(timeout_s):
                return (await receipt.wait()).version
            refusal = refusal_of(receipt)
        finally:
            receipt.drop()
        if refusal is not None:
            raise refusal
        text = (
            f"the publish of {topic!r} was not answered within {timeout_s:g} s, and may have been applied all the same"
        )
        raise OutcomeUnknown(f"{text}: read the topic to learn its outcome")

    def _drop_latest(self, waiting: Waiting) -> None:
        submitted = waiting.ticket is not None
        ticket = self._latest.drop(waiting)
        if ticket is not None:
            self._drop(ticket)
        elif not waiting.holders and not submitted and not waiting.outcome.settled:
            waiting.outcome.settle(dropped())

    def _refusal_of(self, waiting: Waiting) -> RequestError | None:
        return None if waiting.ticket is None else self._refusal(waiting.ticket)

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
        self._raise_if_over()
        return (await self._reader.get(topic, at_least, timeout_s)).change

    def known(self, topic: str, *, max_age: float | None = None) -> Known | None:
        """Return the value of a topic that is followed, without waiting; None if it has none.

        Raises `softstate.Stale` if its state may be older than `max_age` seconds, or nothing proves how old it is: it
        is not followed, or no answer has come yet. Without `max_age`, that of `connect` holds, and if there is none
        either, any finite age will do. Raises `softstate.Unreadable` if its stored record is damaged, and
        `softstate.ClientClosed`.
        """
        topic_of(topic)
        limit = self._limit(max_age)
        self._raise_if_over()
        if self._machine.unreadable([topic]):
            raise Unreadable(f"the stored record of {topic!r} is damaged: publish it again")
        age = self._age_of_topic(topic)
        check_age(topic, age, limit, "use `Client.read`, which asks a node, or allow more")
        return known_of(topic, self._newest(topic), age)

    async def read(
        self, topic: str, *, max_age: float | None = None, timeout_s: float = READ_TIMEOUT_S
    ) -> Known | None:
        """Return the value of a topic as it was at most `max_age` seconds ago; None if it has none.

        What is followed is told at once, if its age allows that; else a node is asked, once. Raises `softstate.Stale`
        if even that is older, because the answer took too long for example, and what `get` raises. Without `max_age`,
        that of `connect` holds, and if there is none either, any age will do. Always safe to cancel.
        """
        check_seconds(timeout_s)
        await anyio.lowlevel.checkpoint()
        try:
            return self.known(topic, max_age=max_age)
        except Stale:
            read = await self._reader.get(topic, None, timeout_s)
        check_age(topic, read.age_s, self._limit(max_age), "the answer took as long: allow more, or try again")
        return known_of(topic, read.change, read.age_s)

    async def status(self, *, timeout_s: float = READ_TIMEOUT_S) -> dict[str, Value]:
        """Return a node's account of what it holds, for people: its fields may change from version to version.

        Raises `softstate.Unavailable` when `timeout_s` is over.
        """
        check_seconds(timeout_s)
        self._raise_if_over()
        return await self._reader.status(timeout_s)

    async def list(self, prefix: str, *, timeout_s: float = READ_TIMEOUT_S) -> Listing:
        """Read all topics below a prefix (``/``: all there are), sorted by name. Raises and retries as `get` does.

        Topics whose stored records are damaged are left out; the list has their names as `unreadable`.
        """
        prefix_of(prefix)
        check_seconds(timeout_s)
        self._raise_if_over()
        return await self._reader.listing(prefix, timeout_s)

    # Closing ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the client, as leaving the block of `connect` does: tasks that wait for it get `ClientClosed`."""
        try:
            self._shell.close()
        finally:
            closed = ClientClosed("the client was closed; what it had sent may be applied all the same")
            self._dispatcher.end(closed)
            for outcome in self._latest.clear():
                if not outcome.settled:
                    outcome.settle(closed)

    def _after(self) -> None:
        self._latest.advance()
        if not self._warned and self._machine.mode == "live":
            self._warned = True
            if self._machine.bound_s > self._max_age:
                terms = f"ages reach {self._machine.bound_s:.1f} s by the terms of {self._machine.url}"
                LOGGER.warning("%s, above the max_age of %g s", terms, self._max_age)

    def _raise_if_over(self) -> None:
        if self._shell.forked:
            raise ClientClosed(FORKED)
        self._dispatcher.raise_if_over()

    def _limit(self, max_age: float | None) -> float:
        if max_age is None:
            return self._max_age
        check_seconds(max_age, "max_age")
        return max_age

    def _age_of_topic(self, topic: str) -> float:
        """Return the least age that anything followed proves of a topic."""
        now = self._clock.now()
        return min(self._machine.age(now, [name]) for name in (topic, *reaching(topic)))

    def _newest(self, topic: str) -> Change | None:
        return next((change for change in self._machine.known(topic) if change.version > 0), None)


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
