"""No log line, metric, status or error of a node holds a token: whole simulated runs are scanned for the bytes of each.

Random faults make nodes refuse, deny, revoke, ask callouts, fetch keys and fail; strangers present tokens besides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import MutableMapping
from typing import Any, NoReturn

import pytest
import structlog

from softstate.server.auth.audit import Audit
from softstate.testing import World
from softstate.testing.simulation import schedule as schedules
from softstate.testing.simulation.random_permissions import checks_of
from softstate.testing.simulation.schedule import ScheduledFault, draw_schedule, run_schedule
from softstate.testing.trace import MessageWritten, TokenIssued

SEEDS = {"issuer": 0, "callout": 4, "policy": 6}

PART = 12
"""Characters of a token that tell something of it: its signature has a hundred."""


class Told:
    """All that the nodes of one world have told, and the world."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.worlds: list[World] = []
        self.lines: list[str] = []
        self.events: Counter[str] = Counter()
        patch.setattr(schedules, "_play", self._play)
        patch.setattr(structlog, "configure", self._configure)

    async def _play(self, world: World, *args: Any) -> None:
        self.worlds.append(world)
        await _play(world, *args)
        for place in world.nodes.values():
            if place.node is not None:
                self.lines += [place.node.metrics().decode(), repr(await place.node.status())]

    def _configure(self, *, processors: Any = (), **options: Any) -> None:
        """Keep each line ahead of the processor that keeps the last ones: as a production node would write it."""

        def keep(logger: Any, method: str, event: MutableMapping[str, Any]) -> NoReturn:
            self.events[str(event["event"])] += 1
            self.lines.append(" ".join(f"{name}={value!r}" for name, value in event.items()))
            processors[0](logger, method, event)
            raise AssertionError

        _configure(processors=[keep], **options)

    def tokens(self) -> set[str]:
        """Return each token that was issued, or presented by anybody."""
        (world,) = self.worlds
        found = {event.token for event in world.trace.of(TokenIssued)}
        found |= {event.message["token"] for event in world.trace.of(MessageWritten) if event.message.get("token")}
        return found

    def leaks(self) -> set[str]:
        """Return the tokens, or the parts of signed ones, that anything told holds."""
        text = "\n".join(self.lines)
        parts = {part for token in self.tokens() for part in (token, *token.split(".")[1:])}
        return {part for part in parts if part[-PART:] in text}


_play = schedules._play
_configure = structlog.configure


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def run(seed: int) -> None:
    faults = [*draw_schedule(seed, permissions=True), *more(seed)]
    outcome = run_schedule(seed, sorted(faults, key=lambda fault: fault.at_s), permissions=True)
    assert outcome.error is None, outcome.error


def more(seed: int) -> list[ScheduledFault]:
    """Return faults by which tokens are refused and names denied in any case."""
    kinds = {"issuer": ("remove_keys", "policy"), "callout": ("log_out", "callout", "policy", "strangers")}.get(
        checks_of(seed), ("remove_keys", "policy", "strangers", "revoke_token", "spoil_policy")
    )
    return [ScheduledFault(20.0 + 10.0 * at, kind, 15.0, at) for at, kind in enumerate(kinds)]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("checks", SEEDS)
def test_nothing_that_nodes_tell_holds_a_token(checks: str, told: Told) -> None:
    assert checks_of(SEEDS[checks]) == checks
    run(SEEDS[checks])
    assert told.events["credentials refused"], told.events
    if checks != "callout":  # whose next answer comes later than most changes of rights are over
        assert told.events["denied"], told.events
    assert len(told.tokens()) > (20 if checks != "callout" else 4)
    assert told.leaks() == set()


@pytest.mark.timeout(240)
def test_a_line_with_a_token_would_be_found(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Audit, error: Any, token: str | None, peer: str = "") -> None:
        structlog.get_logger("softstate.audit").info("credentials refused", token=token)

    monkeypatch.setattr(Audit, "refused", refused)
    run(SEEDS["policy"])
    assert told.leaks()
