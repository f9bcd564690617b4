"""A WebSocket channel without a session: it notes the messages that it takes."""

from __future__ import annotations

from softstate.server.edge.patience import Patience
from softstate.server.edge.wire import Wire
from softstate.server.fanout.outbox import OutboxBounds
from softstate.server.websocket.channel import Channel
from softstate.wire.websocket import Received

MESSAGE_BYTES_MAX = 100_000
IDLE_S_MAX = 50.0


class Heard(Channel):
    """A channel that notes the messages that it takes; `busy` holds the next one up."""

    def __init__(self, wire: Wire, patience: Patience, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        super().__init__(wire, patience, OutboxBounds(1_000, 1_000_000, 10), message_bytes_max, 5)
        self.messages: list[bytes | str] = []
        self.busy = False
        self.over = False
        self.late_calls = 0

    def fail(self) -> None:
        raise AssertionError

    def _take(self, data: bytes | str) -> None:
        self.messages.append(data)

    def _held_up(self, _item: Received) -> bool:
        return self.busy

    def _is_at_work(self) -> bool:
        return self.busy

    def _all_taken(self, *, received: bool) -> None:
        pass

    def _replies_taken(self) -> None:
        pass

    def _overdue(self) -> None:
        self.late_calls += 1

    def _idle_s_max(self) -> float:
        return IDLE_S_MAX

    def _time_out(self) -> None:
        self._close(4002, "idle")

    def _drop_waits(self) -> None:
        pass

    def _ended(self) -> None:
        self.over = True
