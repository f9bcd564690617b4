import msgspec
import pytest

from softstate.model import Change, Durability, Record
from softstate.position import Position


def test_a_record_without_a_value_is_a_tombstone() -> None:
    assert Record("a", 1, None).deleted
    assert not Record("a", 1, b"\xf6").deleted


@pytest.mark.parametrize("thing", [Position("e", "l", 1), Change("a", 1), Record("a", 1, None)], ids=repr)
def test_the_vocabulary_is_frozen(thing: msgspec.Struct) -> None:
    for name in thing.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(thing, name, None)


def test_the_words_for_durability() -> None:
    assert [str(word) for word in Durability] == ["durable", "replicated", "weak", "none"]
