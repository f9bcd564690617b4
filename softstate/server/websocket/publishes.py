"""The publishes of one connection: they overlap with everything else, and are answered in the order of commits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from softstate.errors import RequestError
from softstate.server.auth.discretion import without_current, without_version
from softstate.server.storage.batcher import Ticket
from softstate.server.storage.writes import CommitResult, change_of, number_of
from softstate.server.websocket.parts import Parts
from softstate.server.websocket.refusals import Refusals, answer_error
from softstate.session import SessionMachine
from softstate.store.base import Write
from softstate.wire import Codec, messages


class Publishes:
    """Made when a connection publishes first: most never do.

    `session` knows who publishes, and what may be read now; `reply` queues an answer, `settled` is called after each
    answer that came from the store, `failed` if a bug was met there.
    """

    __slots__ = ("_codec", "_failed", "_parts", "_reply", "_session", "_settled", "inflight", "refusals")

    def __init__(
        self,
        parts: Parts,
        codec: Codec,
        session: SessionMachine,
        reply: Callable[[messages.Message], None],
        settled: Callable[[], None],
        failed: Callable[[], None],
    ) -> None:
        self.inflight = 0
        """Publishes that the store has not answered."""
        self.refusals = Refusals()
        self._parts = parts
        self._codec = codec
        self._reply = reply
        self._session = session
        self._settled = settled
        self._failed = failed

    def submit(self, message: messages.Publish, *, reads: bool, refused: RequestError | None = None) -> None:
        """Hand a publish to the store, or refuse it, `refused` or not; `reads`: its client may read the topic."""
        if self.refusals.first is not None:
            self._answer(self.refusals.answer(message.id))
            return
        config = self._parts.config
        try:
            if refused is not None:
                raise refused
            number = number_of(message, config.publisher_inflight_max)
            change = change_of(message, config, self._codec, number)
            session, size = self._session, len(change.cbor or b"")
            self._parts.gate.check_publish(session.identity, session.presented.address, change.topic, size)
            self._parts.access.writes.submit(change, partial(self._published, message, reads), self._failed)
        except RequestError as error:
            self.refusals.note(error)
            self._answer(answer_error(error, message.id))
            return
        self.inflight += 1

    def _published(self, message: messages.Publish, reads: bool, ticket: Ticket[Write, CommitResult]) -> None:
        self.inflight -= 1
        reads = reads and self._session.may_read(message.topic, self._parts.now())
        if ticket.error is not None:
            # Should none have come after it, none can overtake it: `end` forgets it again.
            self.refusals.note(ticket.error)
            self._answer(answer_error(ticket.error if reads else without_current(ticket.error), message.id))
        else:
            assert ticket.answer is not None
            applied, position = ticket.answer
            if not reads:
                applied = without_version(applied, by_key=message.key is not None)
            self._reply(messages.Published(message.id, message.topic, applied.version, position, applied.repeated))
        self._settled()

    def _answer(self, error: messages.Error) -> None:
        self._parts.access.writes.errors[error.code] += 1
        self._reply(error)

    def end_refusals(self, *, received: bool) -> None:
        """Take publishes again if all are answered; `received`: there are messages that were not looked at yet."""
        self.refusals.end(self.inflight, received=received)
