"""kill -9 of real nodes at random moments: acknowledged publishes are durable, and no client goes back."""

import random
import threading
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.kit.processes import ForeignClient, Server, running, until


def publish_until_it_breaks(server: Server, acknowledged: dict[str, int], numbers: "list[int]") -> None:
    """Publish growing numbers to a few topics, pipelined, and record the acknowledged ones."""
    try:
        with ForeignClient(server, "cbor") as peer:
            peer.hello()
            while True:
                first = numbers[0]
                for offset in range(10):
                    number = first + offset
                    peer.send("publish", id=number, topic=f"crash/{number % 5}", value=number)
                numbers[0] += 10
                for _ in range(10):
                    reply = peer.expect("published")
                    topic = f"crash/{reply['id'] % 5}"
                    acknowledged[topic] = reply["id"]
    except (ConnectionClosed, ConnectionError, InvalidHandshake, EOFError, TimeoutError, OSError):
        return


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_acknowledged_publishes_survive_kill_9_at_any_moment(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged: dict[str, int] = {}
    numbers = [1]
    with running(tmp_path) as server:
        for _ in range(4):
            before = sum(acknowledged.values())
            publisher = threading.Thread(target=publish_until_it_breaks, args=(server, acknowledged, numbers))
            publisher.start()
            target = before + chance.randrange(1, 3_000)
            until("some to be acknowledged", lambda target=target: sum(acknowledged.values()) > target)  # type: ignore[misc]
            server.kill()
            publisher.join()
            server.start()
            for topic, number in acknowledged.items():
                _, value, _ = server.request("GET", f"/v1/topics/{topic}")
                assert value >= number, f"{topic}: {number} was acknowledged, {value} is stored (seed {seed})"


def test_a_restart_is_not_a_reset_and_versions_go_on(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        version = server.put("t", 1)
        with ForeignClient(server) as peer:
            position = peer.hello()["position"]
        server.kill()
        server.start()
        with ForeignClient(server) as peer:
            welcome = peer.hello(position=position, session="forgotten", since=position["revision"])
            assert welcome["resumed"] is False
            assert "reset" not in welcome
            assert welcome["position"]["epoch"] == position["epoch"]
            assert welcome["position"]["lineage"] != position["lineage"]
            peer.send("subscribe", id=1, topics={"t": version})
            assert peer.expect("subscribed")["changes"] == []
            assert server.put("t", 2) > welcome["position"]["revision"]


def pushed(peer: ForeignClient) -> dict[str, Any]:
    """Receive the next push."""
    return peer.expect("notify")


def test_two_nodes_on_one_file_push_each_others_changes(tmp_path: Path) -> None:
    with running(tmp_path) as first, running(tmp_path) as second:
        with ForeignClient(first) as here, ForeignClient(second) as there:
            for peer in (here, there):
                peer.hello()
                peer.subscribe("both/")
            versions = []
            for number in range(20):
                node = (first, second)[number % 2]
                versions.append(node.put(f"both/{number}", number))
            assert versions == sorted(versions)
            for peer in (here, there):
                assert [pushed(peer)["version"] for _ in versions] == versions
        first.kill()
        with ForeignClient(second) as there:
            there.hello()
            assert len(there.subscribe("both/")["changes"]) == 20


def test_a_node_that_joins_is_announced_by_its_lineage(tmp_path: Path) -> None:
    with running(tmp_path) as first, ForeignClient(first) as peer:
        before = peer.hello()["position"]
        with running(tmp_path):
            after = peer.expect("position")["position"]
            assert after["epoch"] == before["epoch"]
            assert after["lineage"] != before["lineage"]
            assert after["revision"] > before["revision"]
