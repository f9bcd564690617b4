"""The worst messages of `bench turns`: each is answered by its id, within the budget of a turn."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bench.load.worst import WorstMessage, worst_messages
from bench.trials.fuzz.node_targets import SocketTarget, handshake, replied
from bench.trials.fuzz.streams import frame
from softstate.server.fanout.turns import BYTES_PER_NAME, FREE_BYTES, Turns
from softstate.wire import CBOR, JSON, Codec, encode_value
from softstate.wire.messages import Error, Hello, Poll, Polled, Publish, Published, Subscribe, Subscribed

WORST = worst_messages()


def codec_of(message: WorstMessage) -> Codec:
    return CBOR if message.cbor else JSON


def framed(codec: Codec, data: bytes) -> bytes:
    return frame(1 if codec.text else 2, data, masked=True)


class Spends:
    """Notes the spending of the turns' budget, in order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.names: list[int] = []
        take = Turns.take

        def noted(turns: Turns, names: int) -> bool:
            self.names.append(names)
            return take(turns, names)

        patch.setattr(Turns, "take", noted)


async def answers(target: SocketTarget, codec: Codec, *messages: bytes) -> list[Any]:
    said = [framed(codec, data) for data in (codec.encode(Hello()), *messages)]
    return replied(await target.talk(handshake(codec), b"".join(said)), codec)[1:]


@pytest.mark.parametrize("worst", WORST, ids=lambda worst: f"{worst.name}, {'cbor' if worst.cbor else 'json'}")
async def test_the_worst_messages_are_refused_by_their_id(
    worst: WorstMessage, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    spends = Spends(monkeypatch)
    target = SocketTarget()
    codec = codec_of(worst)
    async with target.running():
        found = await answers(target, codec, worst.data, codec.encode(Poll(8)))
        # A commit overlaps with what comes after its publish.
        before = [answer for answer in found if not (isinstance(answer, Polled) and answer.id == 8)]
        assert len(before) == len(found) - 1, "the connection goes on"
        if worst.code:
            (error,) = before
            assert isinstance(error, Error)
            assert (error.code, error.id) == (worst.code, worst.id)
        else:
            assert not [answer for answer in before if isinstance(answer, Error)]
            assert len(before) == (worst.id is not None)
        await target.check_unharmed()
    if len(worst.data) > FREE_BYTES:
        assert len(worst.data) // BYTES_PER_NAME in spends.names, "it was dealt with in a turn that had a budget for it"


class Decoded(trio.abc.Instrument):
    """The bytes of messages that were decoded in each pass of the loop, but for hellos."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.bytes = [0]
        request = type(CBOR).request

        def noted(codec: Codec, data: bytes | str) -> Any:
            decoded = request(codec, data)
            self.bytes[-1] += 0 if isinstance(decoded, Hello) else len(data)
            return decoded

        patch.setattr(type(CBOR), "request", noted)

    def after_io_wait(self, timeout: float) -> None:
        self.bytes.append(0)


async def test_a_turn_decodes_no_more_bytes_than_its_budget(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten peers send at once; a message that exceeds the budget has a turn of its own."""
    decoded = Decoded(monkeypatch)
    target = SocketTarget()
    said = [CBOR.encode(Publish(size, f"t{size}", value=b"x" * size)) for size in (1_500, 3_000, 60_000)]
    async with target.running():
        budget_bytes = target.node.turns.names_max * BYTES_PER_NAME
        trio.lowlevel.add_instrument(decoded)
        async with trio.open_nursery() as peers:
            for _ in range(10):
                peers.start_soon(answers, target, CBOR, *said)
        trio.lowlevel.remove_instrument(decoded)
    turns = [size for size in decoded.bytes if size]
    largest = max(budget_bytes, *map(len, said))
    assert sum(turns) == 10 * sum(map(len, said))
    assert max(turns) <= largest + BYTES_PER_NAME * 10
    assert len([size for size in turns if size > budget_bytes]) == 10


async def test_a_publish_with_a_wrong_value_is_answered_by_its_id(autojump_clock: MockClock) -> None:
    target = SocketTarget()
    async with target.running():
        texts = [
            b'{"op":"publish","id":1,"topic":"a","value":{"$bytes":1}}',
            b'{"op":"publish","id":2,"topic":"a","value":18446744073709551616}',
            b'{"op":"publish","id":3,"topic":"a","value":1,"expect":true}',
            b'{"op":"publish","id":4,"topic":"a"}',
            b'{"op":"publish","id":5,"topic":"a","value":1}',
        ]
        *errors, published = await answers(target, JSON, *texts)
        assert [(error.code, error.id) for error in errors] == [("invalid", number) for number in (1, 2, 3, 4)]
        assert isinstance(published, Published)


async def test_a_page_of_json_is_encoded_in_turns_and_says_the_same(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values of many small items cost much to write as JSON; those of a page are written ahead of it."""
    spends = Spends(monkeypatch)
    target = SocketTarget()
    async with target.running():
        values = {f"t{number}": [[number]] * 2_000 for number in range(20)}
        publishes = [CBOR.encode(Publish(number, f"t{number}", value=values[f"t{number}"])) for number in range(20)]
        assert len(await answers(target, CBOR, *publishes)) == 20
        spends.names.clear()
        for message, kind in ((Subscribe(1, prefixes={"/": 0}), Subscribed), (Poll(2, prefixes={"/": 0}), Polled)):
            pages = await answers(target, JSON, JSON.encode(message))
            assert all(isinstance(page, kind) for page in pages)
            assert {change.topic: change.value for page in pages for change in page.changes} == values
        size = len(encode_value(values["t1"]))
        assert len(spends.names) >= 2 * 20 * size / 16 / target.node.turns.names_max
