"""A sink that does nothing: the base of the connections of tests, which do what their test looks at."""

from __future__ import annotations

from softstate.position import Position
from softstate.wire import CBOR, Codec
from softstate.wire.messages import Farewell, Reason
from softstate.wire.push import PushBatch


class SilentSink:
    """Implements `softstate.lease.Sink`."""

    codec: Codec = CBOR

    def offer(self, batch: PushBatch) -> None:
        pass

    def flush(self) -> None:
        pass

    def moved(self, position: Position) -> None:
        pass

    def revoked(self, reason: Reason, retry_ms: int = 0) -> None:
        pass

    def judge(self) -> bool:
        return True

    def leave(self, reason: Farewell) -> None:
        pass

    def fail(self) -> None:
        pass
