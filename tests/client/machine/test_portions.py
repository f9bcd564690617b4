"""Everything that a client sends is cut to the limits that it was told, by bytes of either codec (P-CLI-11)."""

from __future__ import annotations

from random import Random

import pytest

from softstate.client.machine.events import (
    Connected,
    Lost,
    NamesDenied,
    Opened,
    PublishAnswered,
    PublishRequested,
    RequestFailed,
    SendPoll,
    SendPublish,
    Settled,
    Unwanted,
    Wanted,
)
from softstate.client.machine.portions import BATCH_BYTES_MAX, NAMES_BYTES_MAX, Portions, name_bytes, text_bytes
from softstate.errors import OutcomeUnknown, TooLarge
from softstate.position import REVISION_MAX, Position
from softstate.wire import CBOR, JSON, Codec
from softstate.wire.messages import (
    Batch,
    BatchResult,
    ClientMessage,
    Limits,
    Notify,
    Poll,
    Publish,
    Published,
    Renew,
    Subscribe,
    Unsubscribe,
)
from softstate.wire.subscription_digest import digest_of, digest_text
from tests.kit.machine_rig import Rig, at

LIMITS = Limits(10_000, 16_384, 20_000, 1_024, 100_000, 600_000, 1_024, 4_096, 16_384)
LONG = [f"{number:04}/" + "n" * 200 for number in range(1_000)]
HARD = [f"{number:03}/" + '"\\é€😀' * 20 for number in range(300)]


def _size(message: object) -> int:
    return max(len(CBOR.dumps(message)), len(JSON.dumps(message)))


def _sizes(rig: Rig) -> list[int]:
    return [_size(message) for message in rig.sent(object)]


def _node_set(messages: list[ClientMessage]) -> set[str]:
    """Return the set that a node holds after these messages, in order."""
    held: set[str] = set()
    for message in messages:
        if isinstance(message, Subscribe):
            if message.replace:
                held.clear()
            held |= {*message.topics, *message.prefixes}
        elif isinstance(message, Unsubscribe):
            held -= {*message.topics, *message.prefixes}
        elif isinstance(message, Renew):
            assert (message.digest, message.count) == (digest_text(digest_of(held)), len(held))
    return held


def _syncing(limits: Limits, *names: str) -> Rig:
    """Connect to a node that has told its limits on an earlier connection."""
    rig = Rig().syncing(limits=limits)
    rig.do(Lost(rig.conn, None, "cut"))
    rig.log.clear()
    rig.do(Wanted(names))
    rig.tick_once()
    return rig.syncing(limits=limits)


@pytest.mark.parametrize("names", [LONG, HARD])
def test_a_subscribe_in_portions_leaves_the_whole_set_and_every_renewal_matches_it(names: list[str]) -> None:
    rig = _syncing(LIMITS, *names)
    portions = rig.sent(Subscribe)
    assert len(portions) > 3
    assert [portion.replace for portion in portions] == [True] + [False] * (len(portions) - 1)
    rig.machine._push.renew()  # at the worst moment: no portion is answered
    rig.do()
    assert max(_sizes(rig)) <= LIMITS.message_bytes
    assert min(_sizes(rig)[1:-1]) > LIMITS.message_bytes // 3, "no more messages than it takes"
    assert _node_set(rig.sent(object)) == set(names)  # type: ignore[arg-type]
    for portion in portions:
        assert rig.mode == "syncing"
        rig.arrive(rig.subscribed(id=portion.id))
    assert (rig.mode, rig.age) == ("live", 0.0)
    rig.renewing().arrive(rig.renewed())
    assert (rig.mode, rig.machine.statistics().repairs_mismatch) == ("live", 0)


def test_leaving_a_block_of_long_names_goes_in_portions() -> None:
    rig = _syncing(LIMITS, "keep", *LONG)
    for portion in rig.sent(Subscribe):
        rig.arrive(rig.subscribed(id=portion.id))
    rig.do(Unwanted(LONG))
    assert len(rig.recently_sent(Unsubscribe)) > 3
    rig.renewing()
    assert max(_sizes(rig)) <= LIMITS.message_bytes
    assert _node_set(rig.sent(object)) == {"keep"}  # type: ignore[arg-type]


def test_names_added_to_a_lease_go_in_portions() -> None:
    rig = Rig("a").syncing(limits=LIMITS)
    rig.arrive(rig.subscribed())
    rig.do(Wanted(LONG))
    assert len(rig.recently_sent(Subscribe)) > 3
    assert not any(portion.replace for portion in rig.recently_sent(Subscribe))
    assert max(_sizes(rig)) <= LIMITS.message_bytes
    assert _node_set(rig.sent(object)) == {"a", *LONG}  # type: ignore[arg-type]


def test_polls_are_cut_to_a_safe_size_before_a_node_has_told_its_limit() -> None:
    rig = Rig(*LONG, push=False).open()
    asked: list[str] = []
    while rig.machine.describe().polling:
        assert _size(rig.poll.message) <= NAMES_BYTES_MAX
        asked += rig.poll.message.topics
        rig.do(rig.polled())
    assert asked == LONG
    assert len(rig.all(SendPoll)) > 3
    assert rig.age == 0.0


def test_polls_are_cut_to_the_limit_told() -> None:
    rig = Rig(*LONG).syncing(limits=LIMITS)
    rig.do(Lost(rig.conn, None, "cut"))
    rig.advance(1.0)
    while rig.machine.describe().polling:
        rig.do(rig.polled())
    assert len(rig.all(SendPoll)) > 10
    assert max(_size(poll.message) for poll in rig.all(SendPoll)) <= LIMITS.message_bytes


def test_a_poll_on_the_connection_is_cut_too() -> None:
    topic = "/".join("s" * 5 for _ in range(42))
    prefixes = [topic[: 6 * depth] for depth in range(1, 42)]
    rig = _syncing(Limits(10_000, 1_024, 2_048, 1_024, 1, 1, 1_024, 4_096, 16_384), *prefixes)
    for portion in rig.sent(Subscribe):
        rig.arrive(rig.subscribed(id=portion.id))
    rig.arrive(Notify(topic, 11, unknown=True))
    assert len(rig.recently_sent(Poll)) > 3
    assert max(_sizes(rig)) <= 2_048


def test_a_set_larger_than_a_request_may_be_is_polled_in_requests_of_the_limit() -> None:
    rig = Rig("a", "b", "c", "d").syncing(limits=Limits(3, 16_384, 20_000, 1, 1, 1, 1_024, 4_096, 16_384))
    assert rig.all(NamesDenied) == [NamesDenied(["d"])]
    assert Portions.of(Limits(2, 1, 10_000, 1, 1, 1, 1_024, 4_096, 16_384)).cut("abc") == [["a", "b"], ["c"]]
    assert Portions.of(Limits(0, 1, 0, 1, 1, 1, 1_024, 4_096, 16_384)).cut("ab") == [["a"], ["b"]], "one name at least"


@pytest.mark.parametrize("codec", [JSON, CBOR], ids=lambda codec: codec.name)
def test_a_request_holds_no_more_items_than_the_node_takes(codec: Codec) -> None:
    limits = Limits(10_000, 1_024, 262_144, 1_024, 1, 1, 1_024, 4_096, 216)
    portions = Portions.of(limits).cut([f"t/{number}" for number in range(450)])
    assert list(map(len, portions)) == [200, 200, 50]
    position = Position("e", "l", 7)
    topics = dict.fromkeys(portions[0], 0)
    requests: list[ClientMessage] = [
        Subscribe(1, topics, replace=True),
        Poll(1, position, topics, min_revision=7, cursor="cursor"),
        Unsubscribe(portions[0]),
    ]
    for message in requests:
        for _ in codec.check_items(codec.encode(message), 216):
            pass


@pytest.mark.parametrize("seed", range(30))
def test_no_portion_is_longer_than_allowed_in_either_codec(seed: int) -> None:
    random = Random(seed)
    letters = 'ab"\\é€😀'
    names = ["".join(random.choices(letters, k=random.randint(1, 60))) + random.choice(["", "/"]) for _ in range(400)]
    names = list(dict.fromkeys(names))
    position = Position("e" * random.randint(1, 64), "\x01" * random.randint(1, 64), REVISION_MAX)
    limit = random.randint(2_048, 9_000)
    cut = Portions(1_000, limit).cut(names, position)
    assert [name for portion in cut for name in portion] == names
    for portion in cut:
        numbers = dict.fromkeys(portion, REVISION_MAX)
        topics = {name: number for name, number in numbers.items() if not name.endswith("/")}
        prefixes = {name: number for name, number in numbers.items() if name.endswith("/")}
        cursor = "\x02" * 128
        assert _size(Poll("poll-123456789", position, topics, prefixes, REVISION_MAX, cursor)) <= limit
        assert _size(Subscribe("subscribe-123456789", topics, prefixes, replace=True)) <= limit
        assert sum(map(name_bytes, portion)) <= limit


def test_text_is_never_taken_for_shorter_than_it_is_written() -> None:
    for text in ("", "a", '"\\', "\x00\x1f\x7f", "é€😀", "x" * 70_000):
        assert text_bytes(text) >= _size(text)


# Publishes -----------------------------------------------------------------------------------------------------------


def _asked(ticket: int, size: int, topic: str = "") -> PublishRequested:
    return PublishRequested(ticket, topic or f"t{ticket}", b"x" * size, False, None, f"{ticket:032x}", size, size)


def test_a_value_too_large_is_refused_and_never_sent() -> None:
    rig = Rig().syncing(limits=LIMITS)
    rig.do(_asked(1, LIMITS.value_bytes + 1), _asked(2, LIMITS.value_bytes))
    (settled,) = rig.recent(Settled)
    assert isinstance(settled.outcome, TooLarge)
    assert "16385 bytes encoded as CBOR, the limit (value_bytes) is 16384" in str(settled.outcome)
    assert [publish.id for publish in rig.recently_sent(Publish)] == [2]


def test_a_message_too_large_in_this_codec_is_refused() -> None:
    rig = Rig().syncing(limits=LIMITS)
    rig.do(PublishRequested(1, "a", "x", False, None, "k", 16_000, 30_000))  # JSON doubles some values
    (settled,) = rig.recent(Settled)
    assert "the limit (message_bytes) is 20000" in str(settled.outcome)
    assert rig.recently_sent(Publish) == []


def test_a_value_that_waits_is_refused_when_the_node_tells_a_lower_limit() -> None:
    rig = Rig().open()
    rig.do(_asked(1, 100_000), _asked(2, 10, "t1"), Connected(rig.conn))
    assert rig.all(Settled) == []
    rig.arrive(rig.welcome(limits=LIMITS))
    (settled,) = rig.recent(Settled)
    assert isinstance(settled.outcome, TooLarge)
    assert [publish.id for publish in rig.recently_sent(Publish)] == [2], "the next one of its topic goes on"


def test_a_value_too_large_that_may_have_been_applied_elsewhere_has_an_unknown_outcome() -> None:
    rig = Rig().syncing(limits=Limits(10_000, 400_000, 1_048_576, 1_024, 1, 600_000, 1_024, 4_096, 16_384))
    rig.do(_asked(1, 100_000), Lost(rig.conn, None, "cut"))
    rig.greeted()
    rig.arrive(rig.welcome(limits=LIMITS))
    assert rig.all(Settled) == [], "it is on its way over HTTP"
    rig.do(RequestFailed(rig.all(SendPublish)[-1].request, "cut"))
    (settled,) = rig.recent(Settled)
    assert isinstance(settled.outcome, OutcomeUnknown)


def test_a_value_above_the_default_is_taken_by_a_node_that_allows_it() -> None:
    rig = Rig().syncing(limits=Limits(10_000, 2_000_000, 4_000_000, 1_024, 1, 600_000, 1_024, 4_096, 16_384))
    assert rig.machine.value_bytes_max == 2_000_000
    rig.do(_asked(1, 1_500_000))
    assert len(rig.recently_sent(Publish)) == 1


def test_batches_over_http_are_cut_by_bytes_and_a_large_one_goes_alone() -> None:
    rig = Rig(push=False)
    rig.do(Opened(), *(_asked(ticket, 10_000) for ticket in range(1, 60)), _asked(60, 300_000), _asked(61, 10))
    batches = []
    while rig.machine.describe().publishing:
        sent = rig.all(SendPublish)[-1]
        batches.append(sent)
        results = [BatchResult(change.topic, 9, at(9)) for change in sent.changes]
        rig.do(PublishAnswered(sent.request, results))
    assert [change.topic for sent in batches for change in sent.changes] == [f"t{ticket}" for ticket in range(1, 62)]
    sizes = [_size_of_batch(sent) for sent in batches]
    assert [size for size in sizes if size > BATCH_BYTES_MAX] == [max(sizes)]
    assert ["t60"] in [[change.topic for change in sent.changes] for sent in batches]
    assert len(rig.all(Settled)) == 61
    assert all(isinstance(settled.outcome, Published) for settled in rig.all(Settled))


def _size_of_batch(sent: SendPublish) -> int:
    return len(CBOR.dumps(Batch(list(sent.changes))))
