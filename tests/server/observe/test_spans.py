"""Spans of a node, as an exporter of OpenTelemetry's SDK gets them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from softstate import connect
from softstate.errors import Unavailable
from softstate.server.http import context
from softstate.server.observe import spans
from softstate.store.base import Committed, Write
from tests.kit.fake_node import Answer, FakeNode, Peer, parse, read_all
from tests.kit.node_rig import LocalNode, node, until
from tests.kit.rules_gate import RulesGate

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
TRACED = {"Traceparent": f"00-{TRACE}-{CALLER}-01"}
PUT = ("PUT", "/v1/topics/secret", "hidden")
BATCH = {"changes": [{"topic": "secret", "value": "hidden"}, {"topic": "secret/2", "deleted": True}]}
ONE_REQUEST = {"softstate.requests": 1}


class Exported:
    """The spans that have ended, in that order."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self, name: str) -> list[ReadableSpan]:
        return [each for each in self._exporter.get_finished_spans() if each.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.all(name)
        return span


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Exported:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(spans, "_tracer", provider.get_tracer("test"))
    monkeypatch.setattr(spans, "tracing", lambda: True)
    monkeypatch.setattr(context, "tracing", lambda: True)
    return Exported(exporter)


def raw(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


async def ask(running: LocalNode, *requests: bytes) -> list[Answer]:
    async with await trio.open_tcp_stream("127.0.0.1", running.port) as stream:
        await stream.send_all(b"".join(requests))
        await stream.send_eof()
        return parse(await read_all(stream))


def told(span: ReadableSpan) -> tuple[dict[str, Any], StatusCode]:
    return dict(span.attributes or {}), span.status.status_code


@pytest.mark.parametrize(
    ("request_", "topics", "task"),
    [
        (raw(*PUT, **TRACED), 1, False),
        (raw(*PUT, **TRACED, Idempotency_Key="k"), 1, True),
        (raw("DELETE", "/v1/topics/secret", **TRACED), 1, True),
        (raw("POST", "/v1/publish", BATCH, **TRACED), 2, True),
    ],
    ids=["put", "put_with_key", "delete", "batch"],
)
async def test_a_publish_is_the_caller_s_child_and_its_commit_links_to_it(
    exported: Exported, request_: bytes, topics: int, task: bool
) -> None:
    async with node() as running:
        assert [answer.status for answer in await ask(running, request_)] == [200]
    publish, commit = exported.one("publish"), exported.one("commit")
    assert publish.parent is not None
    assert (f"{publish.parent.trace_id:032x}", f"{publish.parent.span_id:016x}") == (TRACE, CALLER)
    assert publish.kind is SpanKind.SERVER
    # Nothing else: no name, no value.
    assert told(publish) == ({"softstate.topics": topics, "http.response.status_code": 200}, StatusCode.UNSET)
    assert told(commit) == ({"softstate.requests": topics}, StatusCode.UNSET)
    assert [link.context for link in commit.links] == [publish.context]
    assert (commit.parent, publish.events, commit.events) == (None, (), ())


@pytest.mark.parametrize(
    "header", [{}, {"Traceparent": "00-" + "0" * 32 + f"-{CALLER}-01"}, {"Traceparent": "nothing"}]
)
async def test_a_publish_without_a_caller_s_trace_begins_one(exported: Exported, header: dict[str, str]) -> None:
    async with node() as running:
        await ask(running, raw(*PUT, **header))
    assert exported.one("publish").parent is None


async def test_requests_in_a_row_have_a_span_each(exported: Exported) -> None:
    async with node() as running:
        await ask(running, raw(*PUT, **TRACED), raw("GET", "/v1/topics/secret"), raw("PUT", "/v1/topics/%zz", 1))
    assert [told(span)[0]["http.response.status_code"] for span in exported.all("publish")] == [200, 400]
    # The topic, and the lineage of its version; reads of the head have none.
    assert [told(span) for span in exported.all("read")] == [(ONE_REQUEST, StatusCode.UNSET)] * 2
    assert not any(span.links for span in exported.all("read"))


async def test_a_commit_that_fails_and_its_publish_are_errors(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(_changes: Sequence[Write]) -> Committed:
        raise Unavailable("no place for secret")

    async with node() as running:
        monkeypatch.setattr(running.store, "publish", down)
        assert [answer.status for answer in await ask(running, raw(*PUT))] == [503]
    publish, commit = exported.one("publish"), exported.one("commit")
    assert told(publish) == ({"softstate.topics": 1, "http.response.status_code": 503}, StatusCode.ERROR)
    assert told(commit) == (ONE_REQUEST, StatusCode.ERROR)
    assert (commit.status.description, commit.events) == ("Unavailable", ())


@pytest.mark.parametrize("request_", [raw(*PUT), raw(*PUT, Idempotency_Key="k")], ids=["callback", "task"])
@pytest.mark.parametrize("end", ["peer", "node"])
async def test_a_publish_that_is_not_answered_is_ended_all_the_same(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, request_: bytes, end: str
) -> None:
    committing = trio.Event()

    async def hangs(_changes: Sequence[Write]) -> Committed:
        committing.set()
        return await trio.sleep_forever()

    async with node() as running:
        monkeypatch.setattr(running.store, "publish", hangs)
        stream = await trio.open_tcp_stream("127.0.0.1", running.port)
        await stream.send_all(request_)
        await committing.wait()
        assert not exported.all("publish")
        if end == "peer":
            stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await stream.aclose()  # which resets the connection
            await until(lambda: bool(exported.all("publish")))
            assert not exported.all("commit")
        await running.kill()
        await stream.aclose()
    attributes, status = told(exported.one("publish"))
    assert status is StatusCode.ERROR
    # A node that ends may come to say 503.
    assert not attributes or (end, attributes["http.response.status_code"]) == ("node", 503)
    assert told(exported.one("commit")) == (ONE_REQUEST, StatusCode.ERROR)


async def test_a_bug_ends_the_span_with_its_answer(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNode(strict=False)

    async def broken(_changes: Sequence[Write]) -> Committed:
        raise ZeroDivisionError

    monkeypatch.setattr(fake.store, "publish", broken)
    assert (await fake.ask("DELETE", "/v1/topics/a")).status == 500
    assert told(exported.one("publish")) == (
        {"softstate.topics": 1, "http.response.status_code": 500},
        StatusCode.ERROR,
    )


async def test_a_request_that_is_taken_again_has_one_span(exported: Exported, nursery: trio.Nursery) -> None:
    rules = RulesGate()
    rules.may("u1", write=["a"])
    rules.issue("token", "u1")
    rules.unasked["token"] = []
    peer = Peer(FakeNode(authority=rules), nursery)
    await peer.send(raw("PUT", "/v1/topics/a", 1, Authorization="Bearer token"))
    rules.answer("token")
    assert (await peer.answer()).status == 200
    assert told(exported.one("publish"))[0]["http.response.status_code"] == 200


async def test_a_publish_over_websocket_has_no_span_but_its_commit(exported: Exported) -> None:
    async with node() as running, connect(running.url) as client:
        await client.publish("a", 1)
    assert not exported.all("publish")
    commit = exported.one("commit")
    assert (told(commit), commit.links, commit.parent) == ((ONE_REQUEST, StatusCode.UNSET), (), None)


async def test_one_commit_links_to_all_its_publishes_once(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    first, going = trio.Event(), trio.Event()

    async with node() as running, trio.open_nursery() as nursery:
        publish: Callable[[Sequence[Write]], Any] = running.store.publish

        async def slow(changes: Sequence[Write]) -> Committed:
            first.set()
            await going.wait()
            committed: Committed = await publish(changes)
            return committed

        monkeypatch.setattr(running.store, "publish", slow)
        nursery.start_soon(ask, running, raw(*PUT))
        await first.wait()
        nursery.start_soon(ask, running, raw("PUT", "/v1/topics/b", 1))
        nursery.start_soon(ask, running, raw("PUT", "/v1/topics/c", 1))
        await until(lambda: len(running.node.access.writes.batcher) == 3)
        going.set()
    _, second = exported.all("commit")
    assert told(second)[0] == {"softstate.requests": 2}
    publishes = {span.context.span_id for span in exported.all("publish")}
    assert len({link.context.span_id for link in second.links} & publishes) == len(second.links) == 2


def test_without_an_sdk_no_span_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not spans.tracing()
    monkeypatch.setattr(spans, "get_tracer_provider", TracerProvider)
    assert spans.tracing()
