"""For tests of the lease table: counts of an empty one, a sink that is never called, and names as codecs make them."""

from __future__ import annotations

from softstate.lease.table import LeaseCounts
from softstate.wire.push import PushBatch
from tests.kit.silent_sink import SilentSink

NOTHING = LeaseCounts(sessions=0, attached=0, detached=0, given_up=0, subscriptions=0, groups=0)


class UncalledSink(SilentSink):
    """A sink that is never called."""

    def offer(self, batch: PushBatch) -> None:
        raise AssertionError(batch)


def equal_copy(text: str) -> str:
    """Return an equal string that is another object, as a codec does."""
    return text.encode().decode()
