"""A stream of events on a whole node: what it tells, what it certifies, how it goes on, and how it ends (P-SSE)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from softstate.auth.revocations import subject_topic
from softstate.store.base import Write
from softstate.wire import encode_value
from softstate.wire.codec.events import EVENT_STREAM
from tests.kit.event_client import EventClient
from tests.kit.memory_node import memory_node, request
from tests.kit.rules_gate import RulesGate


def told(client: EventClient, kind: str) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in client.reader.events if event.kind == kind]


async def test_a_stream_lists_what_there_is_then_pushes_and_certifies(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        await running.set("orders/42", {"state": "paid"})
        await running.set("elsewhere", 1)
        client = await (await EventClient(running, "orders/", "shop").open()).read()
        assert client.kinds == ["open", "message", "sync"]
        assert client.values == {"orders/42": {"state": "paid"}}
        assert client.reader.last_id == str(running.node.hub.position)
        version = await running.set("shop", "x")
        await client.read(2)
        assert client.reader.values["shop"] == (version, "x")
        assert client.kinds == ["open", "message", "sync", "message", "sync"]
        assert client.age < 2.5


async def test_the_head_forbids_to_keep_to_compress_and_to_hold_back(autojump_clock: MockClock) -> None:
    async with memory_node(origins=("http://app.example",)) as running:
        client = await EventClient(running, "a", Origin="http://app.example").open()
        lines = dict(line.split(": ", 1) for line in client.head.split("\r\n")[1:])
        assert lines["Content-Type"] == EVENT_STREAM
        assert lines["Cache-Control"] == "no-store, no-transform"
        assert (lines["X-Accel-Buffering"], lines["Incremental"]) == ("no", "?1")
        assert (lines["Access-Control-Allow-Origin"], lines["Connection"]) == ("http://app.example", "close")
        assert "Content-Length" not in lines
        assert lines["Softstate-Level"] == "3"


async def test_ids_come_with_positions_alone(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        peer = running.connect()
        await peer.send_all(request("GET", "/v1/events?topic=a"))
        await trio.sleep(1)
        await running.set("a", 1)
        await trio.sleep(3)
        body = (await peer.receive_some()).partition(b"\r\n\r\n")[2].decode()
        blocks = [block for block in body.split("\n\n") if "data:" in block]
        assert all(("id:" in block) == ("event: sync" in block) for block in blocks)
        assert all("data:" in block for block in body.split("\n\n") if "id:" in block)
        assert sum("id:" in block for block in blocks) == 2


async def test_all_streams_share_the_bytes_of_a_change(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with memory_node() as running:
        clients = [await (await EventClient(running, "a").open()).read() for _ in range(3)]
        assert len(running.node.sockets) == 3
        written: list[bytes] = []
        for each in running.node.sockets:
            assert each.outbox is not None
            write = each.outbox._write_to

            def keep(data: bytes, write: Any = write) -> int:
                written.append(data)
                return int(write(data))

            monkeypatch.setattr(each.outbox, "_write_to", keep)
        await running.set("a", 1)
        for client in clients:
            assert (await client.read(0.1)).values == {"a": 1}
        changes = [data for data in written if b'"topic"' in data]
        assert len(changes) == 3
        assert changes[0] is changes[1] is changes[2]


async def test_nothing_that_changes_is_told_within_ten_seconds(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        client = await (await EventClient(running, "a").open()).read()
        await client.read(60)
        assert 7 <= len(told(client, "sync")) <= 9
        assert {sync["next_ms"] for sync in told(client, "sync")} == {10_000}
        await client.read(5)
        assert client.age < 12


@pytest.mark.parametrize("by", ["Last-Event-ID", "since"])
async def test_a_stream_goes_on_from_a_position(by: str, autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        for topic in ("p/old", "p/gone", "old", "gone"):
            await running.set(topic, 1)
        client = await (await EventClient(running, "p/", "old", "gone", "new").open()).read()
        await client.close()
        seen = client.reader.last_id
        for topic in ("p/gone", "gone"):
            await running.delete(topic)
        await running.set("new", 2)
        await running.set("p/new", 2)
        before = len(client.reader.events)
        if by == "since":
            client.reader._parser.last_id = ""
            await client.open(since=seen)
            client.reader._listing = False
        else:
            await client.open(since="e.l.1")  # the header is later than the address, which stays as it was
        await client.read()
        changes = [
            json.loads(event.data)["topic"] for event in client.reader.events[before:] if event.kind == "message"
        ]
        assert changes == ["p/gone", "gone", "new", "p/new"]
        assert client.values == {"p/old": 1, "old": 1, "new": 2, "p/new": 2}


async def test_deletions_that_are_forgotten_are_swept(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        for topic in ("p/a", "p/b", "c", "d"):
            await running.set(topic, 1)
        client = await (await EventClient(running, "p/", "c", "d").open()).read()
        await client.close()
        await running.delete("p/b")
        last = await running.delete("d")
        for number in range(3):
            await running.set("other", number)
        await running.store.compact(tombstones=last, keys=0)
        await (await client.open()).read()
        assert sorted(told(client, "sync")[-1]["compacted"]) == ["c", "d", "p/"]
        assert client.values == {"p/a": 1, "c": 1}


async def test_another_history_is_told_and_listed(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        await running.set("a", "old")
        backup = running.store.disk.image.copy()
        await running.set("a", "lost")
        client = await (await EventClient(running, "a").open()).read()
        assert client.values == {"a": "lost"}
        running.store.disk.restore(backup)
        assert await client.to_end() == "rewound"
        await running.set("b", 1)
        await (await client.open()).read()
        assert client.reader.resets == 1
        assert client.values == {"a": "old"}
        assert client.kinds[-4:] == ["open", "reset", "message", "sync"]


async def test_what_the_body_names_is_known_is_left_out(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        first, second = await running.set("a", 1), await running.set("p/b", 2)
        client = EventClient(running, "a", "p/", "c")
        body = {"topics": {"a": first, "c": 0}, "prefixes": {"p/": second - 1}}
        await (await client.open("POST", body)).read()
        assert client.values == {"p/b": 2}
        assert client.status == 200


async def test_a_stream_lives_two_minutes_and_ends_with_a_word(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        began = trio.current_time()
        client = await EventClient(running, "a").open()
        assert await client.to_end() == "renew"
        assert 0.8 * 120 <= trio.current_time() - began <= 1.2 * 120 + 3
        assert (running.node.streams.count, running.node.leases.statistics().sessions) == (0, 0)
        assert client.reader.retry_ms is not None
        assert client.reader.retry_ms <= 1_000


async def test_a_stream_that_is_left_leaves_nothing(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        client = await (await EventClient(running, "a").open()).read()
        assert (running.node.streams.count, running.node.leases.statistics().sessions) == (1, 1)
        await client.close()
        assert (running.node.streams.count, running.node.leases.statistics().sessions) == (0, 0)
        assert (len(running.node.sockets), running.node.connections) == (0, 0)


async def test_a_slow_client_is_told_to_go_on_elsewhere(autojump_clock: MockClock) -> None:
    async with memory_node(congested_s_max=3.0) as running:
        client = await (await EventClient(running, "a").open()).read()
        stream = next(iter(running.node.sockets))
        stream._wire._stream.free_bytes = 40  # type: ignore[attr-defined]
        for number in range(5):
            await running.set("a", number)
            await trio.sleep(1)
        assert stream._closing is not None
        assert stream.outbox is not None
        data = b"".join(stream.outbox._pending.values())
        assert b'"reason":"slow_consumer"' in data
        assert b'"topic"' not in data, "pushes that a sync would have certified were dropped with it"
        await client.close()


async def test_streams_at_the_limit_and_one_over(autojump_clock: MockClock) -> None:
    async with memory_node(streams_max=2) as running:
        first = await EventClient(running, "a").open()
        await EventClient(running, "a").open()
        over = await EventClient(running, "a").open()
        await over.read()
        assert (over.status, over.reader.ended) == (200, "overloaded")
        assert over.reader.retry_ms is not None
        assert 5_000 <= over.reader.retry_ms <= 10_000
        await first.close()
        again = await (await EventClient(running, "a").open()).read()
        assert again.reader.ended is None


async def test_a_node_that_drains_sends_its_streams_away(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        client = await (await EventClient(running, "a").open()).read()
        await running.node.drain()
        for each in tuple(running.node.sockets):
            each.drain()
        assert await client.to_end() == "draining"
        late = await EventClient(running, "a").open()
        await late.read()
        assert (late.status, late.reader.ended) == (200, "draining")


async def test_while_the_store_is_down_the_path_lives_and_ages_grow(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        await running.set("a", 1)
        client = await (await EventClient(running, "a").open()).read()
        await client.read(2)
        running.store.disk.outage = True
        begun = len(client.reader.events)
        await client.read(45)
        assert len(client.reader.events) > begun + 3
        assert client.reader.ended is None
        assert 44 < client.age < 60
        running.store.disk.outage = False
        await client.read(20)
        assert client.age < 12


async def test_a_store_that_is_down_at_first_is_no_end_for_a_browser(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        running.store.disk.outage = True
        client = await EventClient(running, "a").open()
        await client.read(10)
        assert (client.status, client.reader.ended) == (200, "overloaded")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "name at least one topic or prefix"),
        ("topic=a/", "topic"),
        ("prefix=a", "prefix"),
        ("topic=a&since=nonsense", "since must be the id of an event"),
        ("topic=a&wait=1", "unknown query parameter 'wait'"),
    ],
)
async def test_a_bad_request_is_answered_as_any(query: str, words: str, autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        answer = await running.ask("GET", f"/v1/events?{query}")
        assert (answer.status, answer.code) == (400, "invalid")
        assert words in answer.json["message"]


@pytest.mark.parametrize(
    ("since", "last", "wrong"), [("nonsense", "e.l.1", "since"), ("e.l.1", "nonsense", "Last-Event-ID")]
)
async def test_a_position_that_is_none_is_refused_beside_one(
    since: str, last: str, wrong: str, autojump_clock: MockClock
) -> None:
    async with memory_node() as running:
        answer = await running.ask("GET", f"/v1/events?topic=a&since={since}", last_event_id=last)
        assert (answer.status, answer.json["message"].split(" must ")[0]) == (400, wrong)


async def test_a_node_for_polls_serves_no_streams(autojump_clock: MockClock) -> None:
    async with memory_node(role="poll") as running:
        assert (await running.ask("GET", "/v1/events?topic=a")).status == 404


async def test_a_head_alone_is_answered_and_opens_nothing(autojump_clock: MockClock) -> None:
    async with memory_node() as running:
        peer = running.connect()
        await peer.send_all(request("HEAD", "/v1/events?topic=a"))
        head = (await peer.receive_some()).decode()
        assert head.startswith("HTTP/1.1 200 ")
        assert f"Content-Type: {EVENT_STREAM}" in head
        assert running.node.streams.count == 0


# Permissions ---------------------------------------------------------------------------------------------------------


def rules_of(**reads: list[str]) -> RulesGate:
    rules = RulesGate()
    for subject, names in reads.items():
        rules.may(subject, read=names)
        rules.issue(f"token-{subject}", subject)
    return rules


async def test_who_may_read_nothing_of_it_gets_no_stream(autojump_clock: MockClock) -> None:
    async with memory_node(parts={"authority": rules_of(u=["a"])}) as running:
        assert (await running.ask("GET", "/v1/events?topic=a")).status == 401
        bearer = {"Authorization": "Bearer token-u"}
        assert (await running.ask("GET", "/v1/events?topic=b", **bearer)).status == 403
        client = await (await EventClient(running, "a", "b", **bearer).open()).read()
        assert (client.reader.denied, client.reader.ended) == (["b"], None)


async def test_names_that_are_lost_are_told_within_a_renewal(autojump_clock: MockClock) -> None:
    rules = rules_of(u=["a", "b"])
    async with memory_node(parts={"authority": rules}) as running:
        client = await (await EventClient(running, "a", "b", Authorization="Bearer token-u").open()).read()
        rules.may("u", read=["a"])
        await client.read(25)
        assert (client.reader.denied, client.reader.ended) == (["b"], None)
        before = len(client.reader.events)
        await running.set("b", "secret")
        await running.set("a", 1)
        await client.read(15)
        assert client.values == {"a": 1}
        assert "sync" in client.kinds[before:]
        rules.may("u", read=[])
        assert await client.to_end() == "denied"


async def test_the_end_of_the_credentials_is_that_of_the_stream(autojump_clock: MockClock) -> None:
    rules = rules_of()
    rules.may("u", read=["a"])
    until = trio.current_time() + 30
    rules.issue("t", "u", until)
    async with memory_node(parts={"authority": rules}) as running:
        client = await EventClient(running, "a", Authorization="Bearer t").open()
        assert await client.to_end() == "denied"
        assert trio.current_time() < until + 1


async def test_a_revocation_ends_a_stream_ahead_of_what_comes_with_it(autojump_clock: MockClock) -> None:
    rules = rules_of(u=["a"], other=["a"])
    async with memory_node(parts={"authority": rules}) as running:
        client = await (await EventClient(running, "a", Authorization="Bearer token-u").open()).read()
        other = await (await EventClient(running, "a", Authorization="Bearer token-other").open()).read()
        revoked = Write(subject_topic("issuer", "u"), encode_value({}))
        await running.node.access.writes.publish_all([revoked, Write("a", encode_value("secret"))])
        assert await client.to_end() == "denied"
        assert client.values == {}
        assert (await other.read()).values == {"a": "secret"}
        assert (await running.ask("GET", "/v1/events?topic=a", Authorization="Bearer token-u")).status == 401


async def test_a_poll_that_is_held_ends_with_a_revocation(autojump_clock: MockClock) -> None:
    async with memory_node(parts={"authority": rules_of(u=["a"])}) as running:
        answers: list[int] = []

        async def poll() -> None:
            body = {"topics": {"a": 0}, "wait_ms": 20_000}
            answers.append((await running.ask("POST", "/v1/poll", body, Authorization="Bearer token-u")).status)

        running.nursery.start_soon(poll)
        await trio.sleep(1)
        await running.set(subject_topic("issuer", "u"), {})
        await trio.sleep(1)
        assert answers == [401]


async def test_a_lease_that_lost_a_name_certifies_nothing_and_the_stream_goes_on_anew(
    autojump_clock: MockClock,
) -> None:
    async with memory_node() as running:
        client = await (await EventClient(running, "a", "b").open()).read()
        (lease,) = running.node.leases.all()
        running.node.leases.remove(lease, ["b"])
        before = len(client.reader.events)
        await running.set("b", 1)
        assert await client.to_end() == "renew"
        assert "sync" not in client.kinds[before:]
        assert (await (await client.open()).read()).values == {"b": 1}


async def test_a_name_that_is_lost_while_it_is_listed_is_found_too(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with memory_node() as running:
        reads = running.node.access.reads
        submit = reads.submit

        def lose(*asked: Any) -> Any:
            for lease in running.node.leases.all():
                running.node.leases.remove(lease, ["b"])
            return submit(*asked)

        monkeypatch.setattr(reads, "submit", lose)
        client = await (await EventClient(running, "a", "b").open()).read()
        monkeypatch.setattr(reads, "submit", submit)
        await running.set("b", 1)
        listed = client.kinds.count("sync")
        assert await client.to_end() == "renew"
        assert client.kinds.count("sync") == listed
