"""The numbers of a running node: durations, bytes, errors and revocations, as /metrics shows them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

import softstate
from softstate.errors import Conflict
from tests.kit.node_rig import LocalNode, mode_is, node, until

Shown = dict[tuple[str, tuple[str, ...]], float]


def shown(running: LocalNode) -> Shown:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(running.node.metrics().decode())
        for sample in family.samples
    }


def count(numbers: Shown, name: str, *labels: str) -> float:
    return numbers.get((f"softstate_{name}", labels), 0.0)


async def test_publishes_reads_and_renewals_are_timed() -> None:
    async with node() as running, softstate.connect(running.url) as client, client.subscribe("a"):
        await mode_is(client, "live")
        await client.publish("a", 1)
        await until(lambda: bool(count(shown(running), "renewal_duration_seconds_count")))
        numbers = shown(running)
    assert count(numbers, "publish_duration_seconds_count") == count(numbers, "publishes_total") == 1
    assert count(numbers, "read_duration_seconds_count") == count(numbers, "reads_total") >= 1
    assert count(numbers, "commit_to_write_seconds_count") == 1
    assert count(numbers, "bytes_received_total") > 200
    assert count(numbers, "bytes_sent_total") > 200
    assert count(numbers, "store_lag_revisions") == 0


async def test_bytes_are_counted_to_the_last() -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    reply = b""
    async with node() as running, await trio.open_tcp_stream("127.0.0.1", running.port) as stream:
        await stream.send_all(request)
        async for data in stream:
            reply += data
        numbers = shown(running)
    assert count(numbers, "bytes_received_total") == len(request)
    assert count(numbers, "bytes_sent_total") == len(reply)


async def test_errors_of_publishes_count_by_code_over_both_protocols() -> None:
    bodies: list[tuple[str, str, bytes]] = [
        ("PUT", "/v1/topics/a?expect=7", b"1"),
        ("PUT", "/v1/topics/a", b"{"),
        ("POST", "/v1/publish", b'{"changes":[{"topic":"a","value":1},{"topic":"a","value":2,"expect":7}]}'),
        ("GET", "/v1/topics/none", b""),
    ]
    async with node() as running:
        for method, path, body in bodies:
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            async with await trio.open_tcp_stream("127.0.0.1", running.port) as stream:
                await stream.send_all(head.encode() + body)
                assert await stream.receive_some(4096)
        assert count(shown(running), "publish_errors_total", "conflict") == 2
        assert count(shown(running), "publish_errors_total", "invalid") == 1
        assert count(shown(running), "publish_errors_total", "not_found") == 0
        async with softstate.connect(running.url) as client, client.subscribe("b"):
            await mode_is(client, "live")
            with pytest.raises(Conflict):
                await client.publish("a", 3, expect=7)
        assert count(shown(running), "publish_errors_total", "conflict") == 3


async def test_revocations_count_by_reason() -> None:
    async with node() as running, softstate.connect(running.url) as client, client.subscribe("a"):
        await mode_is(client, "live")
        running.node._revoke(None)
        await mode_is(client, "live")
        assert count(shown(running), "revocations_total", "overloaded") == 1
        running.node.repairs.update(slow_consumer=2, mismatch=5)
        assert count(shown(running), "revocations_total", "slow_consumer") == 2
        assert count(shown(running), "revocations_total", "mismatch") == 0


async def test_a_loop_that_is_held_up_shows(mock_clock: MockClock) -> None:
    async with node(wait_s=1_000) as running:
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(1.2)
        await trio.testing.wait_all_tasks_blocked()
        lag: Any = running.node.numbers.loop_lag
        assert lag.sum_s == pytest.approx(0.6)


async def test_it_tells_what_it_is() -> None:
    async with node() as running:
        numbers = shown(running)
    (labels,) = [labels for name, labels in numbers if name == "softstate_build_info"]
    assert set(labels) >= {"memory", "all"}
    assert numbers["process_open_fds", ()] > 3
    assert numbers["process_cpu_seconds_total", ()] > 0
    assert numbers["softstate_start_time_seconds", ()] >= numbers["process_start_time_seconds", ()]
