from typing import Any

import pytest

from softstate.server.http import poll_routes as routes_poll
from softstate.wire import CBOR
from tests.kit.fake_node import Answer, FakeNode


async def fill(node: FakeNode, count: int) -> None:
    for number in range(count):
        await node.set(f"t/{number}", number)


def listed(answer: Answer) -> list[str]:
    return [change["topic"] for change in answer.json["changes"]]


async def test_a_poll_brings_the_differences() -> None:
    node = FakeNode()
    await fill(node, 3)
    await node.delete("t/0")
    answer = await node.ask("POST", "/v1/poll", {"topics": {"t/0": 2, "t/1": 3, "nope": 0}, "prefixes": {"t/": 3}})
    assert answer.status == 200
    assert answer.json["changes"] == [
        {"topic": "t/2", "version": 4, "value": 2},
        {"topic": "t/0", "version": 5, "deleted": True},
    ]
    assert answer.json["next_ms"] == node.config.poll_every_ms
    assert answer["softstate-position"] == str(node.position)
    assert "more" not in answer.json


async def test_a_poll_in_cbor() -> None:
    node = FakeNode()
    await fill(node, 1)
    node.lag_s = 1.5
    raw = CBOR.dumps({"prefixes": {"/": 0}})
    answer = await node.ask("POST", "/v1/poll", raw, Content_Type="application/cbor", Accept="application/cbor")
    assert answer.cbor["changes"] == [{"topic": "t/0", "version": 2, "value": 0}]
    assert (answer.cbor["lag_ms"], answer["softstate-lag-ms"]) == (1500, "1500")


@pytest.mark.parametrize(
    "body",
    [
        [], {"topics": ["a"]}, {"topics": {"a": -1}}, {"topics": {"/a": 0}}, {"prefixes": {"a": 0}},
        {"topics": {"a": 2**53}}, {"position": {"epoch": "e"}}, {"cursor": "x"}, {"cursor": "x" * 129},
    ],
)  # fmt: skip
async def test_bad_polls(body: Any) -> None:
    answer = await FakeNode().ask("POST", "/v1/poll", body)
    assert (answer.status, answer.code) == (400, "invalid")


async def test_names_at_the_limit_and_one_over() -> None:
    node = FakeNode(subscriptions_max=3)
    for topics, status in ((2, 200), (3, 413)):
        body = {"topics": {f"a{number}": 0 for number in range(topics)}, "prefixes": {"p/": 0}}
        assert (await node.ask("POST", "/v1/poll", body)).status == status


async def test_a_push_node_serves_no_polls() -> None:
    answer = await FakeNode(role="push").ask("POST", "/v1/poll", {})
    assert (answer.status, answer.code) == (404, "not_found")
    assert "does not serve polls" in answer.json["message"]


async def test_a_position_off_the_history_is_rewound() -> None:
    node = FakeNode()
    body = {"position": {"epoch": "e", "lineage": "l", "revision": 1}}
    answer = await node.ask("POST", "/v1/poll", body)
    assert (answer.status, answer.code) == (410, "rewound")
    assert answer.json["position"]["revision"] == node.position.revision
    assert (await node.ask("GET", "/v1/topics?since=99")).code == "rewound"


async def test_min_revision(autojump_clock: object) -> None:
    node = FakeNode()
    answer = await node.ask("POST", "/v1/poll", {"min_revision": 2})
    assert (answer.status, answer.code) == (503, "behind")
    assert (await node.ask("POST", "/v1/poll", {"min_revision": 1})).status == 200


async def test_a_list_has_a_prefix_a_since_and_a_limit() -> None:
    node = FakeNode()
    await fill(node, 3)
    await node.set("other", 1)
    assert listed(await node.ask("GET", "/v1/topics")) == ["t/0", "t/1", "t/2", "other"]
    assert listed(await node.ask("GET", "/v1/topics?prefix=t/")) == ["t/0", "t/1", "t/2"]
    assert listed(await node.ask("GET", "/v1/topics?prefix=t%2F&since=3")) == ["t/2"]
    assert listed(await node.ask("GET", "/v1/topics?limit=2")) == ["t/0", "t/1"]


@pytest.mark.parametrize(
    "query", ["prefix=t", "prefix=", "since=-1", "limit=0", "limit=1025", "limit=x", "cursor=x", "prefix=%ff/"]
)
async def test_bad_lists(query: str) -> None:
    answer = await FakeNode().ask("GET", f"/v1/topics?{query}")
    assert (answer.status, answer.code) == (400, "invalid")


async def test_a_page_holds_no_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_poll, "PAGE_RECORDS_MAX", 3)
    node = FakeNode()
    await fill(node, 4)
    assert len(listed(await node.ask("GET", "/v1/topics?limit=2"))) == 2
    assert len(listed(await node.ask("GET", "/v1/topics"))) == 3
    assert len(listed(await node.ask("GET", "/v1/topics?limit=1024"))) == 4


async def test_pages_add_up_while_topics_change() -> None:
    node = FakeNode()
    await fill(node, 5)
    await node.delete("t/4")
    seen: list[str] = []
    target = "/v1/topics?prefix=t/&limit=2"
    answer = await node.ask("GET", target)
    seen += listed(answer)
    assert answer.json["more"] is True
    assert "next_ms" not in answer.json
    await node.set("t/0", "again")
    await node.delete("t/2")
    while "more" in answer.json:
        answer = await node.ask("GET", f"{target}&cursor={answer.json['cursor']}")
        seen += listed(answer)
    assert seen == ["t/0", "t/1", "t/3", "t/4", "t/0", "t/2"]
    assert answer.json["next_ms"] == node.config.poll_every_ms


async def test_pages_of_a_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    node = FakeNode()
    big = "x" * 60_000
    for number in range(12):
        await node.set(f"t/{number}", big)
    body: dict[str, Any] = {"prefixes": {"/": 1}, "topics": {"t/3": 0}}
    first = await node.ask("POST", "/v1/poll", body)
    assert first.json["more"]
    assert len(first.json["cursor"]) <= 128
    seen, answer = listed(first), first
    while "more" in answer.json:
        answer = await node.ask("POST", "/v1/poll", {**body, "cursor": answer.json["cursor"]})
        seen += listed(answer)
    assert seen == [f"t/{number}" for number in range(12)]


async def test_a_cursor_belongs_to_its_request() -> None:
    node = FakeNode()
    await fill(node, 3)
    cursor = (await node.ask("GET", "/v1/topics?limit=1")).json["cursor"]
    for query in ("prefix=t/", "since=1"):
        answer = await node.ask("GET", f"/v1/topics?limit=1&{query}&cursor={cursor}")
        assert (answer.status, answer.code) == (400, "invalid")


async def test_a_cursor_belongs_to_its_history() -> None:
    node = FakeNode()
    backup = node.store.disk.snapshot()
    await fill(node, 3)
    cursor = (await node.ask("GET", "/v1/topics?limit=1")).json["cursor"]
    node.store.disk.restore(backup)
    await node.store.reopen()
    await fill(node, 5)
    answer = await node.ask("GET", f"/v1/topics?limit=1&cursor={cursor}")
    assert (answer.status, answer.code) == (410, "rewound")


async def test_an_answer_that_compaction_cut_off_must_start_over() -> None:
    node = FakeNode()
    await fill(node, 3)
    cursor = (await node.ask("GET", "/v1/topics?limit=1")).json["cursor"]
    await node.delete("t/0")
    await node.store.compact(tombstones=await node.delete("t/2"), keys=0)
    answer = await node.ask("GET", f"/v1/topics?limit=1&cursor={cursor}")
    assert (answer.status, answer.code) == (410, "compacted")
    assert listed(await node.ask("GET", "/v1/topics")) == ["t/1"]


async def test_a_since_that_the_floor_passes_between_pages_must_start_over() -> None:
    node = FakeNode()
    await fill(node, 4)
    await node.delete("t/0")
    body = {"prefixes": {"t/": 3, "u/": 0}}
    for number in range(7):
        await node.set(f"u/{number}", "x" * 65_000)
    first = await node.ask("POST", "/v1/poll", body)
    assert first.json["more"]
    await node.store.compact(tombstones=6, keys=0)
    answer = await node.ask("POST", "/v1/poll", {**body, "cursor": first.json["cursor"]})
    assert (answer.status, answer.code) == (410, "compacted")


async def test_compacted_prefixes_come_with_the_last_page() -> None:
    node = FakeNode()
    await fill(node, 3)
    await node.store.compact(tombstones=await node.delete("t/0"), keys=0)
    first = await node.ask("GET", "/v1/topics?prefix=t/&since=2&limit=1")
    assert (listed(first), "compacted" in first.json) == (["t/1"], False)
    last = await node.ask("GET", f"/v1/topics?prefix=t/&since=2&limit=1&cursor={first.json['cursor']}")
    assert (listed(last), last.json["compacted"]) == (["t/2"], ["t/"])
