"""Every transcript, in both codecs, against a real node in memory; and every message that a node must refuse."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from softstate.testing import memory_node
from softstate.wire import CBOR, JSON, Codec
from tests.wire.example_files import FOLDER, REFUSED, load
from tests.wire.replay import Replay

BOTH = pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)
TRANSCRIPTS = sorted(FOLDER.glob("transcripts/*.json"))


async def replay(codec: Codec, steps: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """Replay steps, and return what their names stand for."""
    async with memory_node(**options) as node, trio.open_nursery() as nursery:
        replay = Replay(node, nursery, codec)
        await replay.run(steps)
        nursery.cancel_scope.cancel()
    return replay.bound.values


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
@BOTH
async def test_a_transcript_is_what_a_node_does(codec: Codec, path: Path, autojump_clock: MockClock) -> None:
    transcript = load(f"transcripts/{path.name}")
    assert set(transcript) == {"about", "clauses", "node", "steps"}
    await replay(codec, transcript["steps"], **transcript["node"])


@BOTH
async def test_a_node_refuses_what_it_must(codec: Codec, autojump_clock: MockClock) -> None:
    steps: list[dict[str, Any]] = []
    refused = [each for each in REFUSED if each.sender == "client"]
    for number, each in enumerate(refused):
        client = f"c{number}"
        first = each.fields.get("op") == "hello"
        greeting = [{"client": client, "sends": {"op": "hello"}}, {"node": client, "sends": {"op": "welcome"}}]
        steps += [
            {"client": client, "connects": True},
            *([] if first else greeting),
            {"client": client, "sends": each.fields},
            {"node": client, "sends": {"op": "error", "code": each.code, "message": f"$message_{number}"}},
            *([{"node": client, "closes": 4200}] if first else []),
        ]
    bound = await replay(codec, steps)
    for number, each in enumerate(refused):
        assert each.names in bound[f"message_{number}"], each.name
    assert len(refused) > 40


STEPS: list[dict[str, Any]] = [{"client": "a", "connects": True}, {"client": "a", "sends": {"op": "hello"}}]


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([{"node": "a", "sends": {"op": "welcome", "resumed": True}}], "False instead of True"),
        ([{"node": "a", "sends": {"op": "welcome", "ttl_ms": 60_000.0}}], "60000 instead of 60000.0"),
        ([{"node": "a", "sends": {"op": "welcome", "node": "$absent"}}], "must not be there"),
        ([{"node": "a", "sends": {"op": "welcome", "session": "$same", "node": "$same"}}], "instead of"),
        ([{"node": "a", "sends": {"op": "welcome", "nonsense": 1}}], "nonsense is missing"),
        ([], "was told more"),
        ([{"node": "a", "closes": 4000}], "not closed"),
        ([{"node": "a", "sends": {"op": "welcome"}}, {"node": "a", "sends": {"op": "bye"}}], "TooSlow"),
        ([{"client": "a", "dances": True}], "no such step"),
    ],
)
async def test_a_replay_can_fail(steps: list[dict[str, Any]], why: str, autojump_clock: MockClock) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await replay(JSON, STEPS + steps)
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, AssertionError)
    assert why in str(error)
