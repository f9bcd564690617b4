"""Templates: messages from kept bytes are those of the general encoder, with any content of their fields."""

from __future__ import annotations

import cbor2
import msgspec
from hypothesis import given, settings, strategies as st

from softstate.model import Durability, Record
from softstate.position import REVISION_MAX, Position
from softstate.wire import CBOR
from softstate.wire.messages import Limits, Message, PollAdvice, Published, RecoverAdvice, Renewed, Subscribed, Welcome

EDGES = [0, 1, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, REVISION_MAX]
NUMBERS = st.sampled_from(EDGES) | st.integers(0, REVISION_MAX)
TEXTS = st.text(max_size=30) | st.sampled_from(
    ["", "position", "hposition", "\x67session\x60", "bid\x00", "dsent\x00", "é" * 30]
)
IDS = NUMBERS | TEXTS
POSITIONS = st.builds(Position, TEXTS, TEXTS, NUMBERS)
MS = st.sampled_from([0, 23, 60_000, 604_800_000])
POLL = st.builds(PollAdvice, MS, MS)
RECOVER = st.builds(RecoverAdvice, MS, MS, MS)
LIMITS = st.builds(Limits, *[NUMBERS] * 9)
NAMES = st.lists(TEXTS, max_size=2)

SUBSCRIBED = st.builds(
    Subscribed, IDS, POSITIONS, more=st.booleans(), digest=TEXTS, count=NUMBERS, compacted=NAMES, denied=NAMES,
    lag_ms=NUMBERS, unreadable=NAMES, clock_ms=st.none() | NUMBERS,
)  # fmt: skip

MESSAGES = st.one_of(
    st.builds(
        Welcome, TEXTS, st.booleans(), TEXTS, POSITIONS, MS, MS, MS, POLL, RECOVER, LIMITS, st.sampled_from(Durability),
        st.sampled_from([True, False, msgspec.UNSET]), NUMBERS, MS, st.none() | NUMBERS,
    ),
    SUBSCRIBED,
    st.builds(Published, IDS, TEXTS, NUMBERS, POSITIONS, st.booleans()),
    st.builds(
        Renewed, IDS, st.booleans(), POSITIONS, NUMBERS, MS, MS, POLL, RECOVER, st.sampled_from(["ok", "down"]),
        NUMBERS, MS, st.none() | NUMBERS,
    ),
)  # fmt: skip


def general(message: Message) -> bytes:
    return cbor2.dumps(msgspec.to_builtins(message, builtin_types=(bytes,)))


@settings(max_examples=200, deadline=None)
@given(messages=st.lists(MESSAGES, min_size=1, max_size=3))
def test_a_message_from_a_template_is_that_of_the_general_encoder(messages: list[Message]) -> None:
    for message in messages * 2:
        assert CBOR.message(message) == general(message)


@settings(max_examples=100, deadline=None)
@given(message=SUBSCRIBED)
def test_changes_come_behind_a_template_as_behind_any_map(message: Subscribed) -> None:
    records = [Record("a", 7, b"\x01"), Record("b", 8, None)]
    whole = cbor2.loads(CBOR.encode(message, records))
    changes = [{"topic": "a", "version": 7, "value": 1}, {"topic": "b", "version": 8, "deleted": True}]
    assert whole == cbor2.loads(general(message)) | {"changes": changes}
