import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from softstate.model import Change
from softstate.position import REVISION_MAX, Position

CHECKED = settings(derandomize=True, database=None, deadline=None, max_examples=300)

IDS = st.text(st.sampled_from("0123456789abcdef"), min_size=1, max_size=32)


@CHECKED
@given(IDS, IDS, st.integers(0, REVISION_MAX))
def test_a_position_survives_as_text(epoch: str, lineage: str, revision: int) -> None:
    position = Position(epoch, lineage, revision)
    assert str(position) == f"{epoch}.{lineage}.{revision}"
    assert Position.parse(str(position)) == position


def test_the_limits_of_a_position_as_text() -> None:
    assert Position.parse("e.l.0") == Position("e", "l", 0)
    assert REVISION_MAX == 2**53 - 1
    assert Position.parse(f"e.l.{REVISION_MAX}") == Position("e", "l", REVISION_MAX)
    assert Position.parse("e.l.007") == Position("e", "l", 7)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "e",
        "e.l",
        "e.l.",
        ".l.1",
        "e..1",
        "e.l.1.2",
        "e.l.-1",
        "e.l.+1",
        "e.l. 1",
        "e.l.1 ",
        "e.l.1_0",
        "e.l.x",
        "e.l.1e3",
        "e.l.\u0661",
        "e.l.²",
        f"e.l.{REVISION_MAX + 1}",
        "e.l." + "9" * 16,
        "e.l." + "9" * 5_000,
    ],
)
def test_a_text_that_is_no_position_is_told_apart(text: str) -> None:
    assert Position.parse(text) is None


def test_positions_are_compared_by_epoch_and_lineage() -> None:
    position = Position("e", "l", 7)
    assert position.at(9) == Position("e", "l", 9)
    assert position.same_lineage(position.at(9))
    assert not position.same_lineage(Position("e", "m", 7))
    assert not position.same_lineage(Position("f", "l", 7))
    assert len({position, Position("e", "l", 7), position.at(8)}) == 2


@pytest.mark.parametrize("revision", [-1, REVISION_MAX + 1, 2**63, 2**70])
def test_a_revision_out_of_range_is_refused_when_decoded(revision: int) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.revision"):
        msgspec.convert({"epoch": "e", "lineage": "l", "revision": revision}, Position)
    with pytest.raises(msgspec.ValidationError, match=r"\$\.version"):
        msgspec.convert({"topic": "a", "version": revision}, Change)
