"""The worst bodies of `bench turns`: refused before they are decoded, or dealt with in portions."""

import cbor2
import msgspec
import pytest

from bench.load.worst import BODY_BYTES, MESSAGE_BYTES, WorstRequest, worst_requests
from softstate.server.fanout.turns import BYTES_PER_NAME, FREE_BYTES, Turns
from softstate.server.http.channel import RECEIVE_BYTES
from softstate.server.http1 import Conversation
from softstate.wire import CBOR, JSON, Codec
from tests.kit.fake_node import FakeNode

BOTH = pytest.mark.parametrize("codec", [CBOR, JSON], ids=lambda codec: codec.name)


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the spending of the turns' budget, in order."""
    found: list[int] = []
    spend = Turns.spend

    async def noted(turns: Turns, names: int) -> None:
        found.append(names)
        await spend(turns, names)

    monkeypatch.setattr(Turns, "spend", noted)
    return found


@pytest.mark.parametrize(
    "worst", worst_requests(), ids=lambda worst: f"{worst.name}, {'cbor' if worst.cbor else 'json'}"
)
async def test_the_worst_bodies_are_refused(worst: WorstRequest, spent: list[int]) -> None:
    (answer,) = await FakeNode().exchange(worst.wire())
    assert answer.status == worst.status, answer.body[:300]
    assert len(answer.body) < 200_000
    if worst.status == 413:
        assert answer.code == "too_large"
    elif worst.status == 200 and len(worst.body) > FREE_BYTES:
        assert spent


@BOTH
@pytest.mark.parametrize(
    ("method", "path", "limit"), [("POST", "/v1/poll", MESSAGE_BYTES), ("POST", "/v1/publish", BODY_BYTES)]
)
async def test_the_last_byte_of_a_body_fits_and_the_next_is_too_large(
    codec: Codec, method: str, path: str, limit: int
) -> None:
    poll = path == "/v1/poll"
    change: dict[str, object] = {"topic": "a", "value": 1, "key": ""}
    tree: dict[str, object] = {"topics": {}, "cursor": ""} if poll else {"changes": [change]}
    padded, name = (tree, "cursor") if poll else (change, "key")
    for over in (0, 1):
        padded[name] = ""
        # The head of a long text in CBOR is longer by four bytes.
        padded[name] = "x" * (limit + over - len(codec.dumps(tree)) - (4 if codec is CBOR else 0))
        body = codec.dumps(tree)
        assert len(body) == limit + over
        answer = await FakeNode().ask(method, path, body, Content_Type=codec.content_type)
        assert answer.status == (413 if over else 400), "a text of that length is refused for itself"


@pytest.mark.parametrize(("codec", "limit"), [(CBOR, 2_000), (JSON, 6 * 2_000)])
async def test_a_value_whose_body_cannot_fit_is_not_decoded(codec: Codec, limit: int) -> None:
    text = "x" * (limit - (3 if codec is CBOR else 2))
    for size in (0, 1):
        body = codec.dumps(text + "x" * size)
        assert len(body) == limit + size
        node = FakeNode(value_bytes_max=2_000)
        answer = await node.ask("PUT", "/v1/topics/a", body, Content_Type=codec.content_type)
        assert answer.status == (200 if codec is CBOR and not size else 413)
        assert ("cannot fit" in answer.body.decode()) == bool(size)


async def test_a_control_character_takes_six_bytes_of_json(spent: list[int]) -> None:
    body = msgspec.json.encode("\x01" * 1_990)
    answer = await FakeNode(value_bytes_max=2_000).ask("PUT", "/v1/topics/a", body)
    assert answer.status == 200
    assert spent == [len(body) // BYTES_PER_NAME]


async def test_the_changes_of_a_batch_are_checked_in_portions(spent: list[int]) -> None:
    """Each is charged what the one before needed."""
    changes = [{"topic": f"t{number}", "value": [0] * (4_000 if number % 2 else 1)} for number in range(6)]
    body = cbor2.dumps({"changes": changes})
    answer = await FakeNode().ask("POST", "/v1/publish", body, Content_Type="application/cbor")
    assert answer.status == 200
    assert not [result for result in answer.json["results"] if "code" in result]
    assert spent[-6:] == [1, 1, 1 + 4_003 // 8, 1, 1 + 4_003 // 8, 1]


async def test_the_names_of_a_poll_are_checked_in_portions(spent: list[int]) -> None:
    topics = {f"t{number}": 0 for number in range(1_000)}
    answer = await FakeNode(turn_names_max=100).ask("POST", "/v1/poll", {"topics": topics})
    assert answer.status == 200
    assert spent[-10:] == [100] * 10


async def test_a_body_in_small_chunks_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read in portions of what one receive brings, and each receive is a turn of the loop."""
    node = FakeNode()
    worst = WorstRequest("", "PUT", "/v1/topics/a", msgspec.json.encode("x" * 20_000), 200, chunk=1)
    portions: list[int] = []
    feed = Conversation.feed

    def noted(conversation: Conversation, data: bytes = b"") -> object:
        portions.append(len(data))
        return feed(conversation, data)

    monkeypatch.setattr(Conversation, "feed", noted)
    (answer,) = await node.exchange(worst.wire())
    assert answer.status == 200
    assert sum(portions) == len(worst.wire()) > 120_000
    assert max(portions) <= RECEIVE_BYTES
