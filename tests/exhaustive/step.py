"""The effect of each step: a state is taken apart, changed, checked against the promises, and put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from softstate.errors import Rewound
from softstate.model import Query
from softstate.names import covers
from softstate.position import Position
from softstate.session import ReadHead
from softstate.store.rules import paging as snapshot
from softstate.wire.messages import Beat, Error, Poll, Polled, Renew, Renewed, Subscribe, Subscribed
from tests.exhaustive import oracle
from tests.exhaustive.node import EPOCH, TERMS, Conn, ModelNode, change
from tests.exhaustive.oracle import Store
from tests.exhaustive.parts import Output
from tests.exhaustive.state import END, HTTP, Channel, WorldState

if TYPE_CHECKING:
    from tests.exhaustive.small_world import SmallWorld


class Step:
    """A state while one step changes it. Each public method is a step."""

    def __init__(self, world: SmallWorld, state: WorldState) -> None:
        self._world = world
        self.store = state.store
        self.node = state.node
        self.clients = list(state.clients)
        self.views = list(state.views)
        self.channels = list(state.channels)
        self.budget = state.budget

    def state(self) -> WorldState:
        """Return the state after the step."""
        return WorldState(
            self.store, self.node, tuple(self.clients), tuple(self.views), tuple(self.channels), self.budget
        )  # fmt: skip

    def _change_channel(self, i: int, **fields: Any) -> None:
        self.channels[i] = self.channels[i]._replace(**fields)

    # The store and the node ------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit the next change."""
        self.store = self.store._replace(entries=self._world.committed(self.store.entries, self.budget.commits))
        self.budget = self.budget._replace(commits=self.budget.commits + 1)

    def _row(self, keep: int) -> Position:
        """Keep so many commits, and open the store."""
        entries, past = self.store.entries, self.store.past
        if keep < len(entries):
            self.budget, past = self.budget._replace(rewinds=self.budget.rewinds - 1), entries
            self.views = [view._replace(asked=()) for view in self.views]
        row = Position(EPOCH, f"l{self.store.rows + 1}", keep + 1)
        self.store = Store((*entries[:keep], row), past, self.store.rows + 1)
        return row

    def rewind(self, keep: int) -> None:
        """Put a backup with so many commits in place of the store; the node notices."""
        row = self._row(keep)
        self._node("rewound", row)

    def rewind_unnoticed(self, keep: int) -> None:
        """Put a backup in place of the store; until the node notices, it reads of the new history."""
        row = self._row(keep)
        self.store = self.store._replace(unseen=row)

    def notice(self) -> None:
        """Let the node notice that the store was rewound."""
        row = self.store.unseen
        self.store = self.store._replace(unseen=None)
        self._node("rewound", row)

    def read_head(self) -> None:
        """Begin to read the head of the store, for the level."""
        self.budget = self.budget._replace(levels=self.budget.levels - 1)
        self._node("read_head", self._head())

    def level(self) -> None:
        """Let the node take note that its hub has reached the head that was read."""
        self._node("level")

    def beat(self, i: int) -> None:
        """Send a beat."""
        self.budget = self.budget._replace(beats=self.budget.beats - 1)
        self._node("beat", (i, self.channels[i].serial))

    def crash(self, keep: int) -> None:
        """Kill the node, keep so many commits of the store, and start another node."""
        self.budget = self.budget._replace(crashes=self.budget.crashes - 1)
        world = self._world
        incarnation = world.nodes.states.things[self.node].incarnation + 1
        gate = world.nodes.states.things[self.node].gate
        node = ModelNode(world.messages, incarnation, self._row(keep), gate, conflates=world.bounds.conflates)
        self.node = world.nodes.add(node)
        for i, channel in enumerate(self.channels):
            down = (*channel.down, END) if channel.stage == "up" else channel.down
            stage = "cut" if channel.stage == "up" else channel.stage
            poll = ("reply", END) if channel.poll is not None and channel.poll[0] == "asked" else channel.poll
            self.channels[i] = Channel(channel.serial, stage, (), down, (), channel.late, poll)

    def hub(self) -> None:
        """Let the hub apply the next commit."""
        node = self._world.nodes.states.things[self.node]
        entry = self.store.entries[node.hub.revision]
        self._node("apply", self._world.messages.number(entry))

    def read(self, conn: Conn) -> None:
        """Begin the read that a connection waits for."""
        peer = self._world.nodes.states.things[self.node].peers[conn]
        if isinstance(peer.asking, ReadHead):
            found: object = self._head()
        else:
            found = snapshot.answer(peer.asking.query, self._world.image(self.store.entries))
        self._node("begin", conn, self._world.messages.number(found))

    def _head(self) -> Position:
        entries = self.store.entries
        row = next(entry for entry in reversed(entries) if isinstance(entry, Position))
        return row.at(len(entries))

    def answer(self, conn: Conn) -> None:
        """Hand the machine what its read found."""
        self._node("answer", conn)
        self._read_at_once(conn)

    def _read_at_once(self, conn: Conn) -> None:
        peer = self._world.nodes.states.things[self.node].peers.get(conn)
        if not self._world.bounds.split_reads and peer is not None and peer.asking and peer.snapshot is None:
            self.read(conn)

    def pop(self, conn: Conn) -> None:
        """Write the first message that waits; it arrives at once."""
        self._node("pop", conn)
        self.arrive(conn[0])

    def expire(self, i: int) -> None:
        """Let a lease expire, and tell its connection."""
        self.budget = self.budget._replace(expiries=self.budget.expiries - 1)
        self._node("expire", (i, self.channels[i].serial))

    def forget(self, i: int, whole: bool) -> None:
        """End a lease, or empty it, without telling its connection."""
        self.budget = self.budget._replace(forgets=self.budget.forgets - 1)
        self._node("forget", (i, self.channels[i].serial), whole)

    def deny(self) -> None:
        """Change the rules: a name may not be read any more."""
        self.budget = self.budget._replace(denials=0)
        self._node("deny", self._world.bounds.denied)

    def _node(self, *given: Any) -> None:
        self.node, out = self._world.nodes.step(self.node, *given)
        for word, conn, number in out:
            i, serial = conn
            channel = self.channels[i]
            current = channel.serial == serial and channel.stage == "up"
            if word == "write":
                if current:
                    self._change_channel(i, down=(*channel.down, number))
                elif self._world.bounds.late:
                    self._change_channel(i, late=(*channel.late, number))
            elif current:
                self._change_channel(i, down=(*channel.down, END - number), stage="cut", up=())
            else:
                self._change_channel(i, old_up=tuple(old for old in channel.old_up if old[0] != conn))

    # Connections -----------------------------------------------------------------------------------------------------

    def connect(self, i: int) -> None:
        """Accept a connection."""
        serial = self.channels[i].serial + 1
        self._node("accept", (i, serial))
        self._change_channel(i, stage="up", serial=serial, up=(), down=())
        self._client(i, "connected", None)

    def hear(self, i: int) -> None:
        """Let the node take a message."""
        channel = self.channels[i]
        self._change_channel(i, up=channel.up[1:])
        self._node("hear", (i, channel.serial), channel.up[0])
        self._read_at_once((i, channel.serial))

    def hear_old(self, i: int, at: int) -> None:
        """Let the node take a message of a connection that was left or lost, or its end."""
        channel = self.channels[i]
        conn, (number, *rest) = channel.old_up[at]
        waiting = ((conn, tuple(rest)),) if rest else ()
        self._change_channel(i, old_up=(*channel.old_up[:at], *waiting, *channel.old_up[at + 1 :]))
        if conn in self._world.nodes.states.things[self.node].peers:
            if number == END:
                self._node("hang_up", conn)
            else:
                self._node("hear", conn, number)
                self._read_at_once(conn)

    def arrive(self, i: int) -> None:
        """Let a client take a message, or the end of its connection."""
        channel = self.channels[i]
        if not channel.down:
            return
        number, *rest = channel.down
        self._change_channel(i, down=tuple(rest))
        if number > END:
            self._client(i, "arrived", number)
            return
        self._change_channel(i, stage="none", down=())
        code = None if number == END else self._world.messages.number(END - number)
        self._client(i, "lost", code)

    def arrive_late(self, i: int) -> None:
        """Let a message of a connection that the client has left arrive."""
        number, *rest = self.channels[i].late
        self._change_channel(i, late=tuple(rest))
        self._client(i, "late", number)

    def cut(self, i: int) -> None:
        """Cut a connection; each side learns of it later."""
        self.budget = self.budget._replace(cuts=self.budget.cuts - 1)
        channel = self.channels[i]
        self._hang_up(i)
        self._change_channel(i, stage="cut", down=(*channel.down, END))

    def _hang_up(self, i: int) -> None:
        channel = self.channels[i]
        if channel.stage == "up":
            self._change_channel(i, up=(), old_up=(*channel.old_up, ((i, channel.serial), (*channel.up, END))))

    def want(self, i: int) -> None:
        """Let a client want one name more."""
        later = list(self.budget.later)
        later[i] = False
        self.budget = self.budget._replace(later=tuple(later))
        name = self._world.bounds.later
        self._client(i, "wants", self._world.messages.number(name))

    def tick(self, i: int) -> None:
        """Let a client's timer fire."""
        ticks = list(self.budget.ticks)
        ticks[i] = max(ticks[i] - 1, 0)
        self.budget = self.budget._replace(ticks=tuple(ticks))
        self._client(i, "ticked", None)

    # Polls -----------------------------------------------------------------------------------------------------------

    def serve_poll(self, i: int) -> None:
        """Read the store for a poll; the answer is on its way."""
        world, channel = self._world, self.channels[i]
        assert channel.poll is not None
        asked = world.messages.things[channel.poll[1]]
        assert isinstance(asked, Poll)
        page = snapshot.answer(Query(asked.topics, asked.prefixes, asked.position), world.image(self.store.entries))
        answer: Polled | Rewound
        if isinstance(page, Rewound):
            answer = page
        else:
            every_ms = TERMS.poll.every_ms
            changes = [change(record) for record in page.records]
            answer = Polled(0, page.position, changes, compacted=list(page.compacted), next_ms=every_ms)
        self._change_channel(
            i, poll=("reply", world.messages.number(answer, (type(answer), repr(answer), str(page.position))))
        )

    def poll_arrives(self, i: int) -> None:
        """Let a poll's answer arrive."""
        poll = self.channels[i].poll
        assert poll is not None
        self._change_channel(i, poll=None)
        self._client(i, "polled", None if poll[1] == END else poll[1])

    # Clients ---------------------------------------------------------------------------------------------------------

    def _client(self, i: int, word: str, number: int | None) -> None:
        world = self._world
        machine = world.clients.states.things[self.clients[i]].machine
        self.views[i] = self.views[i]._replace(position=machine.position)
        self.clients[i], out = world.clients.step(self.clients[i], word, number)
        message = None if number is None else world.messages.things[number]
        self.client_did(i, out, message)
        self.views[i] = self.views[i]._replace(position=None)
        if word == "polled":
            self.views[i] = oracle.answered(self.views[i], HTTP) if self.channels[i].poll is None else self.views[i]
        elif isinstance(message, Subscribed | Renewed | Error):
            self.views[i] = oracle.answered(self.views[i], str(message.id))

    def client_did(self, i: int, out: tuple[Output, ...] | list[Output], message: Any) -> None:
        """Carry out what a client did, and check it."""
        for word, *given in out:
            match word:
                case "connect":
                    self._change_channel(i, stage="opening")
                    kept = tuple(asked for asked in self.views[i].asked if asked[0] == HTTP)
                    self.views[i] = self.views[i]._replace(asked=kept)
                case "send":
                    self._asks(i, given[0])
                    if self.channels[i].stage == "up":
                        self._change_channel(i, up=(*self.channels[i].up, given[0]))
                case "disconnect":
                    self._left(i)
                case "poll":
                    self._change_channel(i, poll=("asked", given[0]))
                    self.views[i] = oracle.sent(self.views[i], HTTP, len(self.store.entries))
                case "abandon":
                    self._change_channel(i, poll=None)
                case "deliver":
                    self.views[i] = oracle.delivered(self.views[i], self.store, *given)
                case "reset":
                    self.views[i] = oracle.was_reset(self.views[i], given[0])
                case _:
                    name, revision = given
                    covered = tuple(topic for topic in self._world.scopes[i] if covers(name, topic))
                    oracle.certified(self.views[i], self.store, covered, revision, message.position)
                    if not isinstance(message, Beat):  # its age is a matter of clocks, which stand still here
                        oracle.fresh(self.views[i], str(message.id) if message.id else HTTP, message.position)

    def _asks(self, i: int, number: int) -> None:
        message = self._world.messages.things[number]
        if isinstance(message, Subscribe | Renew):
            self.views[i] = oracle.sent(self.views[i], str(message.id), len(self.store.entries))

    def _left(self, i: int) -> None:
        self._hang_up(i)
        late = tuple(number for number in self.channels[i].down if number > END) if self._world.bounds.late else ()
        self._change_channel(i, stage="none", down=(), late=late)
