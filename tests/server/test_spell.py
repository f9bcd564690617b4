from __future__ import annotations

from softstate.server.spell import Spell


def test_a_spell_is_told_once_when_it_begins_and_once_when_it_ends() -> None:
    told: list[object] = []
    now = [0.0]
    spell = Spell(told.append, told.append, quiet_s=1.0, now=lambda: now[0])
    spell.succeeded()
    assert (spell.on, told) == (False, [])
    for because in ("full", "fuller"):
        spell.failed(because)
    assert (spell.on, spell.because, told) == (True, "fuller", ["full"])
    now[0] = 0.9
    spell.succeeded()
    assert (spell.on, spell.quiet_for_s) == (True, 0.9)
    spell.failed("full")
    now[0] = 2.0
    spell.succeeded()
    assert (spell.on, told) == (False, ["full", 3])
    spell.succeeded()
    spell.failed("again")
    assert told == ["full", 3, "again"]
