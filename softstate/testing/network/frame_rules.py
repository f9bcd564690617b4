"""Faults of single messages: which frames to drop, to send twice, to delay, or to cut the connection at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias, final

from softstate.testing.network.frame_tap import Frame

FrameFault: TypeAlias = Literal["drop", "duplicate", "delay", "cut", "tell"]
"""``delay`` lets later frames overtake; ``cut`` resets the connection before the frame; ``tell`` only calls `hit`."""


@final
@dataclass(slots=True, eq=False)
class FrameRule:
    """Does something to WebSocket messages: to those of one `op` (None: all), between `sender` and `receiver`.

    To a `share` of them, drawn at random, and at most `times` of them (None: for ever). The first `skip` that match
    are left alone. `hit` is called with each frame that is chosen, before anything is done to it.
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
        """Decide whether this frame is one of them, and count it."""
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
