"""HTTP/1.1 on one wire, with every deadline that a server needs: requests in, one after the other, and replies out.

It is an object that is fed with bytes, and never waits. It does without the compromises that example servers make: a
head has a deadline, and so has a body; silence and slow reading end; a peer that is refused while it still sends can
read why. Sizes are held to by `softstate.server.http1`, which this drives.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from enum import Enum, auto

import trio

from softstate.errors import Invalid, Overloaded
from softstate.server.config import ServerConfig
from softstate.server.edge.patience import Patience
from softstate.server.edge.wire import Wire
from softstate.server.http1 import Conversation, KnownHeads, Refused, Reply, RequestHead

RECEIVE_BYTES = 16 * 1024
"""Most bytes that are received, and read, in one turn of the loop: 2,700 chunks of a body at most, in 2 ms."""

LINGER_S_MAX = 2.0
"""Time that a refused peer may go on sending before its connection is closed all the same."""

LINGER_BYTES_MAX = 1024 * 1024
"""Bytes that a refused peer may go on sending; all of them are thrown away."""


class Step(Enum):
    """The step of the conversation that is due."""

    HEAD = auto()
    """The peer sends a head, or is silent."""
    BODY = auto()
    """The peer sends the body that was asked for."""
    ANSWER = auto()
    """A request is being answered."""
    WRITE = auto()
    """The peer takes what is written."""
    LINGER = auto()
    """The last reply was written, and what the peer still sends is thrown away."""
    OVER = auto()
    """The connection has ended, or another protocol has it."""


class HttpChannel:
    """One connection, as a sequence of requests and replies. What a request means is the subclass's.

    `date` writes the ``Date`` of replies; a server without a clock sends none (RFC 9110 section 6.6.1).
    """

    __slots__ = (
        "_begun",
        "_behind",
        "_config",
        "_conversation",
        "_date",
        "_deadline",
        "_fresh",
        "_hung_up",
        "_linger_bytes",
        "_patience",
        "_reading",
        "_rest",
        "_step",
        "_then",
        "_watch",
        "_wire",
        "answering",
    )

    def __init__(
        self, wire: Wire, patience: Patience, config: ServerConfig, heads: KnownHeads, date: Callable[[], str]
    ) -> None:
        self.answering = False
        """Whether a reply to the present request has begun to go out."""
        self._wire = wire
        self._config = config
        self._date = date
        self._conversation = Conversation(config, heads)
        self._step = Step.HEAD
        self._fresh = True
        """Whether no request has come yet."""
        self._begun = False
        """Whether a part of a head has come, behind an earlier request."""
        self._behind = False
        """Whether bytes were received behind the last request that have not been looked at."""
        self._reading = True
        self._rest = memoryview(b"")
        self._then: Callable[[], None] | None = None
        self._linger_bytes = LINGER_BYTES_MAX
        self._hung_up: Callable[[], None] | None = None
        self._deadline = trio.current_time() + config.head_s_max
        self._patience = patience
        # Last: from then on the node's patience has it.
        self._watch = patience.watch(self, self._deadline)

    # Called by the edge ---------------------------------------------------------------------------------------------

    def readable(self) -> None:
        """Receive what there is, which may be nothing, and act; go on with what was received behind a request."""
        match self._step:
            case Step.HEAD | Step.BODY:
                self._read()
            case Step.LINGER:
                self._throw_away()
            case Step.ANSWER if self._hung_up is not None:
                if self._keep():
                    self._hung_up()
            case _:
                # The next request waits in the socket. Done late: most peers send none before they are answered.
                self._want_read(False)

    def writable(self) -> None:
        """Go on writing."""
        if self._step is Step.WRITE:
            self._write_rest()

    def end(self) -> None:
        """End: the peer has gone, or is to be left. Idempotent."""
        if self._step is not Step.OVER:
            self._leave()
            self._wire.close()

    def _leave(self) -> None:
        """Have no more to do with the socket."""
        self._step = Step.OVER
        self._watch.end()
        hung_up, self._hung_up = self._hung_up, None
        if hung_up is not None:
            hung_up()
        self._left()

    def is_over(self) -> bool:
        """Tell whether the connection has ended, or another protocol has it."""
        return self._step is Step.OVER

    # Reading --------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        conversation = self._conversation
        event = None
        if self._behind:
            self._behind = False
            event = conversation.feed()
        if event is None and not (conversation.behind or conversation.ended):
            try:
                data = self._wire.receive(RECEIVE_BYTES)
            except BlockingIOError:
                pass
            else:
                self._wire.traffic.received += len(data)
                event = conversation.feed(data) if data else conversation.end()
        self._take(event)

    def _take(self, event: RequestHead | bytes | Refused | None) -> None:
        if event is None:
            self._await_more()
            return
        self._step = Step.ANSWER
        self._deadline = math.inf
        if isinstance(event, RequestHead):
            self._fresh = self._begun = False
            self._take_head(event)
        elif isinstance(event, bytes):
            self._take_body(event)
        else:
            self._refuse(event)

    def _await_more(self) -> None:
        conversation = self._conversation
        if conversation.behind:
            self._behind = True
            self._wire.again()
            return
        if conversation.ended:
            self.end()
            return
        self._want_read(True)
        if self._step is Step.HEAD and conversation.begun and not (self._fresh or self._begun):
            # A new connection has its time from the beginning, and a kept one from the first byte on.
            self._begun = True
            self._set_deadline(trio.current_time() + self._config.head_s_max)

    def _await_body(self) -> None:
        """Have the body of the present request received; tell a peer that waits for that to go on. Raises `Refused`."""
        interim = self._conversation.go_on()
        if interim:
            self._write(interim, self._begin_body)
        else:
            self._begin_body()

    def _begin_body(self) -> None:
        self._step = Step.BODY
        self._set_deadline(trio.current_time() + self._config.body_s_max)
        self._take(self._conversation.feed())

    def _want_read(self, wanted: bool) -> None:
        if wanted is not self._reading:
            self._reading = wanted
            self._wire.want_read(wanted)

    # Hanging up -----------------------------------------------------------------------------------------------------

    async def hang_up(self) -> None:
        """Return once the peer has ended its side, or was lost, while its request is held.

        The bytes that it sends meanwhile are kept, up to the size of a head; a peer that sends more does not wait for
        its answer, and counts as gone.
        """
        hung_up = trio.Event()
        if not self.on_hang_up(hung_up.set):
            try:
                await hung_up.wait()
            finally:
                self.on_hang_up(None)

    def on_hang_up(self, call: Callable[[], None] | None) -> bool:
        """Have `call` called when `hang_up` would return; tell whether that is already so. None takes that back."""
        if call is not None and self._hangs_up():
            return True
        self._hung_up = call
        if call is not None:
            self._want_read(True)
        return False

    def _hangs_up(self) -> bool:
        conversation = self._conversation
        return conversation.ended or conversation.buffered > self._config.head_bytes_max

    def _keep(self) -> bool:
        """Keep what is received behind the present request; tell whether the peer hangs up."""
        try:
            data = self._wire.receive(RECEIVE_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._wire.traffic.received += len(data)
            self._conversation.feed(data)
        else:
            self._conversation.end()
        if not self._hangs_up():
            return False
        self._want_read(False)
        return True

    # Writing --------------------------------------------------------------------------------------------------------

    def _reply(self, reply: Reply, *, close: bool) -> None:
        """Write the reply to the present request; the peer has ``send_s_max`` to take it."""
        data = self._conversation.reply(reply, self._date(), close=close)
        self.answering = True
        self._write(data, self._replied)

    def _reply_prepared(self, data: bytes) -> None:
        """Write a reply that was prepared for many, and that leaves the connection open."""
        self._conversation.replied()
        self.answering = True
        self._write(data, self._replied)

    def _write(self, data: bytes, then: Callable[[], None]) -> None:
        self._step = Step.WRITE
        sent = self._try_send(data)
        if sent == len(data):
            then()
        elif sent is not None:
            self._rest = memoryview(data)[sent:]
            self._then = then
            self._wire.want_write(True)
            self._set_deadline(trio.current_time() + self._config.send_s_max)

    def _write_rest(self) -> None:
        sent = self._try_send(self._rest)
        if sent is None:
            return
        self._rest = self._rest[sent:]
        if not self._rest:
            self._wire.want_write(False)
            then, self._then = self._then, None
            assert then is not None
            then()

    def _try_send(self, data: bytes | memoryview) -> int | None:
        """Return how many bytes were taken; None, having ended, if the connection is gone."""
        try:
            sent = self._wire.try_send(data)
        except BlockingIOError:
            return 0
        except (OSError, trio.BrokenResourceError):
            self.end()
            return None
        self._wire.traffic.sent += sent
        return sent

    def _replied(self) -> None:
        """Begin what follows a reply: the next request, or the end."""
        self.answering = False
        conversation = self._conversation
        if not conversation.reusable:
            self._linger()
            return
        self._step = Step.HEAD
        self._set_deadline(trio.current_time() + self._config.idle_s_max)
        if conversation.buffered or conversation.ended:
            # In a later turn: a peer that sends many requests at once holds up no other.
            self._behind = True
            self._wire.again()
        else:
            self._want_read(True)

    # The end --------------------------------------------------------------------------------------------------------

    def _linger(self) -> None:
        """Let the peer read the last reply: closing with its bytes unread would reset the connection under it.

        Ends when the peer closes, at the latest after `LINGER_S_MAX` seconds or `LINGER_BYTES_MAX` bytes. RFC 9112
        section 9.6 asks for it.
        """
        self._step = Step.LINGER
        self._wire.shut()
        if self._conversation.ended:
            self.end()
        else:
            self._set_deadline(trio.current_time() + LINGER_S_MAX)
            self._want_read(True)

    def _throw_away(self) -> None:
        try:
            data = self._wire.receive(RECEIVE_BYTES)
        except BlockingIOError:
            return
        self._wire.traffic.received += len(data)
        self._linger_bytes -= len(data)
        if not data or self._linger_bytes <= 0:
            self.end()

    def stop_waiting(self) -> None:
        """End the connection if it is a kept one without a request under way.

        A new one is left alone: its request may be on its way, and clients do not repeat a first request by themselves.
        """
        if self._step is Step.HEAD and not (self._fresh or self._begun or self._behind):
            self.end()

    # Memory ---------------------------------------------------------------------------------------------------------

    @property
    def held_bytes(self) -> int:
        """The bytes of a request that is not whole, or of a reply that the peer does not take."""
        if self._step in (Step.HEAD, Step.BODY):
            return self._conversation.held_bytes
        return len(self._rest) if self._step is Step.WRITE else 0

    def shed_memory(self, error: Overloaded) -> None:
        """End, or refuse what has come of a request: the memory of the node is full (P-CONN-17)."""
        if self._step in (Step.HEAD, Step.BODY):
            self._step = Step.ANSWER
            self._deadline = math.inf
            self._refuse(Refused(503, error))
        elif self._step is Step.WRITE:
            self.end()

    # Patience -------------------------------------------------------------------------------------------------------

    def _set_deadline(self, at: float) -> None:
        self._deadline = at
        self._watch = self._patience.sooner(self._watch, at)

    def late(self, now: float) -> float:
        """See `softstate.server.edge.patience.Patient.late`."""
        if now >= self._deadline and self._reading and self._step in (Step.HEAD, Step.BODY):
            # This process may have been stopped, and what the peer has sent meanwhile may wait to be read.
            self.readable()
        if now >= self._deadline:
            self._deadline = math.inf
            self._time_out()
        if self._step is Step.OVER:
            return math.inf
        # While it is the node's turn there is none, and nothing tells when there will be one again.
        return self._deadline if self._deadline < math.inf else now + self._config.head_s_max

    def _time_out(self) -> None:
        config = self._config
        if self._step is Step.HEAD and self._conversation.begun:
            limit = f"{config.head_s_max:g} s (head_s_max)"
            self._step = Step.ANSWER
            self._refuse(Refused(408, Invalid(f"the request's head took longer than {limit}")))
        elif self._step is Step.BODY:
            limit = f"{config.body_s_max:g} s (body_s_max)"
            self._step = Step.ANSWER
            self._refuse(Refused(408, Invalid(f"the request's body took longer than {limit}")))
        else:
            self.end()

    # For the subclass to say ----------------------------------------------------------------------------------------

    @abstractmethod
    def fail(self) -> None:
        """End: a bug was met."""

    @abstractmethod
    def _take_head(self, head: RequestHead) -> None:
        """Take a request, whose body may have to be asked for."""

    @abstractmethod
    def _take_body(self, body: bytes) -> None:
        """Take the body that was asked for."""

    @abstractmethod
    def _refuse(self, refused: Refused) -> None:
        """Answer what is no request, or one that did not come whole in time."""

    @abstractmethod
    def _left(self) -> None:
        """Take note that nothing more comes of this."""
