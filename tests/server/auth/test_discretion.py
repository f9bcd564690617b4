from softstate.errors import Conflict, KeyReused
from softstate.server.auth.discretion import without_current, without_version
from softstate.store.base import Applied


def test_a_conflict_tells_no_version_to_those_who_may_not_read_it() -> None:
    there = without_current(Conflict("'a' is at version 40, not 38", current=40))
    absent = without_current(Conflict("'a' does not exist", current=0))
    assert there.current is absent.current is None
    assert there.message == absent.message
    assert "40" not in there.message


def test_other_refusals_stay() -> None:
    error = KeyReused("taken")
    assert without_current(error) is error


def test_a_version_that_somebody_else_may_have_made_is_not_told() -> None:
    assert without_version(Applied(7), by_key=True) == Applied(7)
    assert without_version(Applied(7, repeated=True), by_key=True) == Applied(0, repeated=True)
    assert without_version(Applied(7, repeated=True), by_key=False) == Applied(7, repeated=True)
    assert without_version(Applied(7, changed=False), by_key=False) == Applied(0, changed=False)
