"""What a node tells its clients in `welcome` and `renewed`."""

from __future__ import annotations

from dataclasses import dataclass, field

from softstate.model import Durability
from softstate.session.load_advice import Advice
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

    poll: PollAdvice = field(init=False)
    """The part about polling."""
    recover: RecoverAdvice = field(init=False)
    """The part about coming back."""

    def __post_init__(self) -> None:
        """Make the parts once, for all who are told."""
        advice = self.advice
        recover = RecoverAdvice(advice.recover_spread_ms, advice.recover_base_ms, advice.recover_cap_ms)
        object.__setattr__(self, "poll", PollAdvice(advice.poll_every_ms, advice.poll_spread_ms))
        object.__setattr__(self, "recover", recover)
