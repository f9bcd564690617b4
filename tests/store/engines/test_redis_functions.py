"""Publishing by other programs, with one call of a function in the server."""

from __future__ import annotations

import itertools
from random import Random

import pytest
import trio

from softstate.errors import Invalid, RequestError
from softstate.model import Page, Query
from softstate.names import ALL, check_topic
from softstate.store.base import Write
from softstate.store.redis.store import RedisStore
from softstate.store.remote.encoding import cbor_of_json
from softstate.wire import decode_value
from tests.store.engines.redis_rig import RedisRig, Refused, send

MUTANTS = 400
"""How many damaged texts the library and `cbor_of_json` are asked about."""

_numbers = itertools.count()


@pytest.fixture
def rig(server: RedisRig) -> RedisRig:
    server.namespace = f"direct{next(_numbers)}"
    return server


async def values(store: RedisStore) -> dict[str, object]:
    (page,) = await store.read([Query(prefixes={ALL: 0})])
    assert isinstance(page, Page)
    return {record.topic: decode_value(record.cbor or b"") for record in page.records}


async def test_publishing_and_deleting(rig: RedisRig) -> None:
    """It returns the version, and wakes who waits."""
    store = await rig.open()
    with trio.fail_after(10):
        await store.wait(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.publish_directly, "orders/42", '{"state": "paid", "é": [1, 2.5, null, true]}')
        with trio.fail_after(10):
            await store.wait(1)
    assert await values(store) == {"orders/42": {"state": "paid", "é": [1, 2.5, None, True]}}
    assert await rig.ask("FCALL", "softstate_publish", 1, rig.namespace, "b", '{"$bytes": "AP8="}') == b":3\r\n"
    assert (await values(store))["b"] == b"\x00\xff"
    await rig.publish_directly("orders/42", None)
    assert sorted(await values(store)) == ["b"]
    await store.aclose()


async def test_in_a_transaction_of_the_caller(rig: RedisRig) -> None:
    """Between MULTI and EXEC it commits with the caller's own row, or not at all."""
    store = await rig.open()
    row = ("SET", f"{rig.namespace}-row", "x")
    publish = ("FCALL", "softstate_publish", 1, rig.namespace, "a", "1")
    async with await trio.open_tcp_stream("127.0.0.1", rig.port) as stream:
        for command in (("MULTI",), row, publish, ("DISCARD",), ("MULTI",), row, publish):
            await send(stream, *command)
        assert (await store.head()).revision == 1
        assert await send(stream, "EXEC") == b"*2\r\n+OK\r\n:2\r\n"
    assert await values(store) == {"a": 1}
    await store.aclose()


async def test_compare_and_set(rig: RedisRig) -> None:
    store = await rig.open()
    call = ("FCALL", "softstate_publish", 1, rig.namespace, "a")
    assert await rig.ask(*call, "1", 0) == b":2\r\n"
    with pytest.raises(Refused, match="CONFLICT topic is at version 2"):
        await rig.ask(*call, "2", 0)
    assert await rig.ask(*call, "2", 2) == b":3\r\n"
    with pytest.raises(Refused, match="CONFLICT"):
        await rig.ask("FCALL", "softstate_delete", 1, rig.namespace, "a", 2)
    assert await rig.ask("FCALL", "softstate_delete", 1, rig.namespace, "a", 3) == b":4\r\n"
    assert await rig.ask(*call, "3", 0) == b":5\r\n", "a tombstone counts as absent"
    for wrong in ("-1", "x", "1.5"):
        with pytest.raises(Refused, match="INVALID expect"):
            await rig.ask(*call, "3", wrong)
    assert (await store.head()).revision == 5
    await store.aclose()


WRONG = [
    "", " ", "nope", "{", "[1,]", "[1 2]", "{'a': 1}", '{"a" 1}', "1 2", "tru", "nulll", "\x00",
    "NaN", "Infinity", "-Infinity", "nan", "0x10", "01", "1.", ".5", "+1", "1e", "1.e5", "1e999", "-1e999",
    "9223372036854775808", "-9223372036854775809", "100000000000000000000",
    '"\x01"', '"a\nb"', '"\\x"', '"\\ud800"', '"\udcff"', '{"$bytes": "*"}', '{"$bytes": 1}', '{"$bytes": "abc"}',
    "[" * 33 + "]" * 33, '"' + "x" * 65_536 + '"', "[" + "1.5," * 9_000 + "1]",
    "[" + "0," * 4_096 + "0]", '{"a": [' + "[0]," * 2_047 + '[{"$bytes": ""}, 0]]}',
]  # fmt: skip
RIGHT = [
    "null", "true", "0", "-0", "-1.5e-3", "1E5", "9223372036854775807", "-9223372036854775808",
    '""', '"\\u00e9é\\n"', '"\\ud83d\\ude00"', '"a,1:b{}[] 07 nan"', '"\\"\\\\"', '{"a\\"b": 1}',
    "[]", "{}", ' [ 1 , {"a": {}} ] ', '{"$bytes": ""}', '{"$bytes": "AA==", "a": 1}',
    "[" * 32 + "]" * 32, '"' + "x" * 60_000 + '"',
    "[" + "0," * 4_095 + "0]", '{"a": [' + "[0]," * 2_046 + '[{"$bytes": ""}, 0]]}',
]  # fmt: skip


@pytest.mark.parametrize("json", WRONG)
async def test_what_cannot_be_carried_is_refused(rig: RedisRig, json: str) -> None:
    store = await rig.open()
    raw = json.encode(errors="surrogateescape")
    with pytest.raises(RequestError):
        cbor_of_json(raw)
    with pytest.raises(Refused, match="INVALID value"):
        await rig.ask("FCALL", "softstate_publish", 1, rig.namespace, "a", raw)
    assert (await store.head()).revision == 1
    await store.aclose()


@pytest.mark.parametrize("json", RIGHT)
async def test_what_can_be_carried_is_taken(rig: RedisRig, json: str) -> None:
    store = await rig.open()
    await rig.publish_directly("a", json)
    assert await values(store) == {"a": decode_value(cbor_of_json(json.encode()))}
    await store.aclose()


async def test_every_accepted_value_can_be_carried(rig: RedisRig) -> None:
    """Of many damaged texts, the library accepts only those that every reader can decode."""
    random = Random(1)
    store = await rig.open()
    whole = '{"a": [1, -2.5e3, true, null, "x\\n\\u00e9é😀"], "b": {"$bytes": "AP8="}, "c": {}}'.encode()
    taken = 0
    for _ in range(MUTANTS):
        text = bytearray(whole)
        for _ in range(random.randint(1, 3)):
            at = random.randrange(len(text))
            text[at : at + random.randint(0, 2)] = bytes([random.choice((*whole, 0, 0x80, 0xC0, 0xFF, *b'eE.+-0"\\'))])
        try:
            await rig.ask("FCALL", "softstate_publish", 1, rig.namespace, "a", bytes(text))
        except Refused:
            continue
        taken += 1
        cbor_of_json(bytes(text))
    assert taken > MUTANTS / 20, "some damage is no harm"
    await store.aclose()


@pytest.mark.parametrize(
    "topic",
    ["", "/", "a/", "/a", "a//b", ".", "a/../b", "a\x00", "a\n", "a\x7f", "a\u0085b", "\udcff", "é" * 128, "a/./b"],
)
async def test_wrong_topics_are_refused(rig: RedisRig, topic: str) -> None:
    store = await rig.open()
    with pytest.raises(Invalid):
        check_topic(topic)
    raw = topic.encode(errors="surrogateescape")
    for call in (("softstate_publish", 1, rig.namespace, raw, "1"), ("softstate_delete", 1, rig.namespace, raw)):
        with pytest.raises(Refused, match="INVALID topic"):
            await rig.ask("FCALL", *call)
    assert (await store.head()).revision == 1
    await store.aclose()


@pytest.mark.parametrize("topic", ["a", "é" * 127, "a b/c.d/..e", "{x}", "\u00a0", "日本/😀"])
async def test_right_topics_are_taken(rig: RedisRig, topic: str) -> None:
    store = await rig.open()
    await rig.publish_directly(check_topic(topic), "1")
    assert await values(store) == {topic: 1}
    await store.aclose()


async def test_wrong_calls_are_refused_with_the_reason(rig: RedisRig) -> None:
    store = await rig.open()
    for call, complaint in (
        (("softstate_publish", 1, rig.namespace, "a"), "takes a topic, JSON text"),
        (("softstate_delete", 1, rig.namespace), "takes a topic"),
        (("softstate_publish", 0, "a", "1"), "takes one key, the namespace"),
        (("softstate_publish", 2, rig.namespace, "x", "a", "1"), "takes one key, the namespace"),
        (("softstate_publish", 1, "nowhere", "a", "1"), "NOSTORE there is no store in namespace nowhere"),
    ):
        with pytest.raises(Refused, match=complaint):
            await rig.ask("FCALL", *call)
    await store.aclose()


async def test_value_written_past_the_library_is_unreadable(rig: RedisRig) -> None:
    """A bad value hides no other: neither from a listing, nor behind the end of a page."""
    store = await rig.open()
    await store.publish([Write(f"t/{number}", b"\x01") for number in range(6)])
    script = (
        "local key = '{' .. KEYS[1] .. '}:' .. redis.call('HGET', '{' .. KEYS[1] .. '}:meta', 'image') .. ':record' "
        "return redis.call('HSET', key, 't/0', 'bad', 't/3', '{')"
    )
    await rig.ask("EVAL", script, 1, rig.namespace)
    for limit in (1, 2, 3, 5, 6, 7):
        seen: dict[str, bool] = {}
        query = Query(topics={"t/0": 0, "t/3": 0, "t/5": 0}, prefixes={"t/": 0}, limit=limit)
        while True:
            (page,) = await store.read([query])
            assert isinstance(page, Page)
            seen |= {record.topic: record.unreadable for record in page.records}
            if not page.more:
                break
            assert page.records
            query = Query(query.topics, query.prefixes, after=page.records[-1].version, listed=7, limit=limit)
        assert {topic for topic, unreadable in seen.items() if not unreadable} == {"t/1", "t/2", "t/4", "t/5"}, limit
    await store.aclose()
