"""The client machine keeps its promises in every world of `tests.kit.small_world`, and converges after its faults.

Seeds are in the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest

from softstate.client.machine.connection import Connection
from softstate.client.machine.events import Opened, Wanted
from softstate.client.machine.knowledge import Knowledge, Question
from softstate.client.machine.push_path import PushPath
from tests.kit.small_world import RENEW_S, TIMEOUT_S, SmallWorld


@pytest.mark.parametrize("seed", range(200))
def test_ages_are_honest_and_everything_converges(seed: int) -> None:
    live(seed)


def live(seed: int) -> None:
    world = SmallWorld(seed)
    world.handle(Wanted(["a", "p/"]))
    world.handle(Opened())
    for _ in range(400):
        world.step()
    world.heal()
    assert world.machine.mode == "live"
    newest = world.store.newest().items()
    alive = {topic: each.value for topic, each in newest if not each.deleted and topic not in world.damaged}
    held = {topic: each.value for topic, each in world.copy.items() if not each.deleted and topic not in world.damaged}
    assert held == alive
    assert set(world.machine.unreadable()) <= world.damaged, "what was published again is readable"
    assert world.machine.age(world.now) <= 1.2 * RENEW_S + TIMEOUT_S


# Mutants: each takes one rule out, and some seed breaks a promise ----------------------------------------------------


def _unreadable_is_swept(patch: pytest.MonkeyPatch) -> None:
    apply = Knowledge.apply_unreadable

    def unlisted(self: Knowledge, question: Question, topics: Iterable[str], revision: int) -> list[str]:
        found = apply(self, question, topics, revision)
        question.listed.difference_update(topics)
        return found

    patch.setattr(Knowledge, "apply_unreadable", unlisted)


def _unreadable_has_an_age(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Knowledge, "unreadable", lambda *_: [])


def _portions_all_replace(patch: pytest.MonkeyPatch) -> None:
    subscribe = PushPath._subscribe

    def replacing(self: PushPath, connection: Connection, names: Sequence[str], *, replace: bool) -> None:
        del replace
        subscribe(self, connection, names, replace=True)

    patch.setattr(PushPath, "_subscribe", replacing)


@pytest.mark.parametrize("mutant", [_unreadable_is_swept, _unreadable_has_an_age, _portions_all_replace])
def test_a_mutant_is_caught(mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        for seed in range(200):
            live(seed)
