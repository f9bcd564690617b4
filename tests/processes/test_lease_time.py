"""Leases on a real clock: they end without renewals, nothing is pushed afterwards, and nothing of them is left."""

import signal
import time
from pathlib import Path

from tests.kit.processes import ForeignClient, digest, running, until


def test_a_silent_session_expires_and_is_pushed_to_no_more(tmp_path: Path) -> None:
    with running(tmp_path) as server, ForeignClient(server) as silent, ForeignClient(server) as lively:
        lively.hello()
        lively.subscribe("topic")
        silent.hello(ttl_ms=1_000)
        sent_at = time.monotonic()
        silent.subscribe("topic")
        pushed = 0
        while time.monotonic() < sent_at + 2:
            lively.send("renew", id=1, digest=digest("topic"), count=1)
            version = server.put("topic", "x")
            received = [lively.receive(), lively.receive()]
            assert {message["op"] for message in received} == {"renewed", "notify"}
            pushed += 1
        received_by_silent = [silent.receive()]
        while received_by_silent[-1]["op"] == "notify":
            received_by_silent.append(silent.receive())
        assert received_by_silent[-1] == {
            "op": "revoked",
            "reason": "expired",
            "retry_ms": 0,
            "spread_ms": received_by_silent[-1]["spread_ms"],
        }
        assert 0 < len(received_by_silent) - 1 < pushed
        silent.send("renew", id=2, digest=digest("topic"), count=1)
        silent.expect("error", code="no_lease", id=2)
        silent.send("subscribe", id=3, topics={"topic": 0}, replace=True)
        assert silent.expect("subscribed", id=3)["changes"][0]["version"] == version
        silent.expect("notify", version=server.put("topic", "again"))


def test_everything_about_vanished_clients_goes_by_itself(tmp_path: Path) -> None:
    with running(tmp_path, ttl="2s") as server:
        peers = [ForeignClient(server) for _ in range(10)]
        for number, peer in enumerate(peers):  # all at once, so that the first lease lasts until the last is counted
            peer.send("hello")
            peer.send("subscribe", id=1, topics={f"own/{number}": 0}, prefixes={"shared/": 0})
        for peer in peers:
            peer.expect("welcome")
            peer.expect("subscribed", id=1)
        held = server.status()
        assert (held["sessions"], held["subscriptions"], held["names"]) == (10, 20, 11)
        for peer in peers[:5]:
            peer.socket.socket.close()
        # The other five stay connected and send nothing more: to the node they look half-open.
        until("no session left", lambda: server.status()["sessions"] == 0)
        # Their names are reaped in the turns behind that.
        until("no name left", lambda: server.status()["subscriptions"] == server.status()["names"] == 0)
        until("no connection left", lambda: server.status()["websockets"] == 0)
        for peer in peers[5:]:
            peer.expect("revoked", reason="expired")
            peer.expect("bye", reason="idle")


def test_a_node_stopped_for_two_ttls_honours_no_old_lease(tmp_path: Path) -> None:
    with running(tmp_path, ttl="1s") as server, ForeignClient(server) as peer:
        peer.hello()
        version = peer.subscribe("topic")["position"]["revision"]
        server.signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        peer.send("renew", id=1, digest=digest("topic"), count=1)
        # A real pause is the point here: the node's clock must run on while it stands still.
        until("two TTLs to pass", lambda: time.monotonic() - stopped_at > 2)
        server.signal(signal.SIGCONT)
        # Whichever finds the lease over first, the sweep or the renewal: only the sweep says `revoked`.
        answer = peer.receive()
        if answer["op"] == "revoked":
            answer = peer.receive()
        assert (answer["op"], answer.get("code")) == ("error", "no_lease")
        peer.send("subscribe", id=2, topics={"topic": 0}, replace=True)
        assert peer.expect("subscribed", id=2)["position"]["revision"] >= version
