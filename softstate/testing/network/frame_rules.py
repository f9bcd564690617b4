"""Faults of single messages: rules that drop a frame, send it twice, delay it, or cut the connection before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias, final

from softstate.testing.network.frame_tap import Frame

FrameFault: TypeAlias = Literal["drop", "duplicate", "delay", "cut", "observe"]
"""``delay`` lets later frames overtake, ``cut`` resets the connection before the frame, ``observe`` does nothing."""


@final
@dataclass(slots=True, eq=False)
class FrameRule:
    """Applies a fault to WebSocket messages of one `op` (None: of any) from `sender` to `receiver` (None: any host).

    A matching message is chosen with a chance of `share`, the first `skip` of these are left alone, and at most `times`
    are hit (None: without limit). `hit` is called with each frame that is hit, before the fault. `hits` counts them.
    """

    fault: FrameFault
    op: str | None = None
    sender: str | None = None
    receiver: str | None = None
    share: float = 1.0
    times: int | None = 1
    skip: int = 0
    delay_s: float = 0.0
    hit: Callable[[Frame], None] | None = None
    hits: int = 0

    def chooses(self, sender: str, receiver: str, frame: Frame, random: Random) -> bool:
        """Decide whether this rule hits a frame, and count it if so."""
        if frame.opcode is None or (self.times is not None and self.hits >= self.times):
            return False
        if self.sender not in (None, sender) or self.receiver not in (None, receiver):
            return False
        if self.op not in (None, frame.op) or (self.share < 1.0 and random.random() >= self.share):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.hits += 1
        return True

    def __str__(self) -> str:
        what = self.op or "any message"
        how_often = "every one" if self.times is None else f"{self.times} of them"
        share = "" if self.share >= 1.0 else f", chance {self.share:g}"
        return f"{self.fault} {what} {self.sender or '*'}→{self.receiver or '*'} ({how_often}{share})"
