"""What a node tells its clients in `welcome` and `renewed`."""

from __future__ import annotations

from dataclasses import dataclass

from softstate.lease.spread import Advice
from softstate.model import Durability
from softstate.wire.messages import Limits, PollAdvice, RecoverAdvice


@dataclass(frozen=True, slots=True)
class Terms:
    """What a node tells its clients, as of now."""

    node: str
    ttl_ms: int
    timeout_ms: int
    advice: Advice
    limits: Limits
    durability: Durability

    @property
    def poll(self) -> PollAdvice:
        """The part about polling."""
        return PollAdvice(self.advice.poll_every_ms, self.advice.poll_spread_ms)

    @property
    def recover(self) -> RecoverAdvice:
        """The part about coming back."""
        return RecoverAdvice(self.advice.recover_spread_ms, self.advice.recover_base_ms, self.advice.recover_cap_ms)
