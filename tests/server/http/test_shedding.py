"""Handshakes and polls that wait to be admitted, or are refused with bytes that were prepared (P-HTTP-10)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from bench.trials.fuzz.node_targets import handshake
from softstate.auth.failures import BURST, FAILURES
from softstate.server.edge.admission import Kind
from softstate.server.http import shedding as module
from softstate.server.http.shedding import _WORDS, PREPARED, PREPARED_S
from softstate.wire import JSON
from tests.kit.fake_node import Answer, FakeNode, Peer, parse, read_all
from tests.kit.fake_wire import FakeWire
from tests.kit.rules_gate import RulesGate

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POLL = b"POST /v1/poll HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}"
LIST = b"GET /v1/topics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
PUT = b"PUT /v1/topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\n1"
UPGRADE = handshake(JSON)


def statuses(answers: list[Answer]) -> list[int]:
    return [answer.status for answer in answers]


def shedding(shed_s: float = 2.5) -> FakeNode:
    node = FakeNode()
    node.admission.shed_s = shed_s
    return node


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [UPGRADE, POLL, LIST], ids=["upgrade", "poll", "list"])
async def test_one_that_is_shed_is_told_when_to_come_back_and_its_connection_is_kept(request_: bytes) -> None:
    node = shedding()
    node.admission.shed_s = 2.5
    refused, alive, again = await node.exchange(request_ + GET + request_)
    assert (refused.status, refused.code, refused["retry-after"]) == (503, "overloaded", "3")
    assert (refused.json["retry_ms"], alive.status) == (2_500, 200)
    assert (again.status, again.json["retry_ms"]) == (503, 3_500), "not all at the same time"
    assert "connection" not in refused.headers


async def test_a_refusal_tells_nothing_of_other_identities() -> None:
    """It is prepared for one, and given to others in turn."""
    rules = RulesGate()
    node = FakeNode(authority=rules)
    node.admission.shed_s = 2.5
    rules.issue("token", "u1", trio.current_time() + 1_000)
    refused = await node.exchange(POLL.replace(b"Host", b"Authorization: Bearer token\r\nHost"))
    assert statuses(refused) == [503]
    assert "softstate-credentials-ms" not in refused[0].headers


def presenting(tokens: Iterable[str], path: str = "/v1/topics/a", *lines: str) -> bytes:
    more = "".join(f"{line}\r\n" for line in lines)
    return b"".join(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n{more}\r\n".encode()
        for token in tokens
    )


def forged(count: int, name: str = "bad") -> list[str]:
    return [f"{name}-{number}" for number in range(count)]


@pytest.fixture
async def guarded() -> FakeNode:
    """A node that has refused so many tokens of its peer that it looks at no more."""
    rules = RulesGate()
    rules.may("u1", read=["a"])
    rules.issue("good", "u1")
    return FakeNode(authority=rules, failures_per_s=0.001, origins=("http://good.example",))


async def test_tokens_that_are_not_looked_at_are_refused_alike(guarded: FakeNode, mock_clock: MockClock) -> None:
    assert statuses(await guarded.exchange(presenting(["good"]))) == [404]
    tokens = [*forged(BURST + 2 * PREPARED), "good", *forged(1, "more")]
    answers = await guarded.exchange(presenting(tokens))
    assert statuses(answers) == [401] * BURST + [429] * 2 * PREPARED + [404, 429]
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.json["why"] for answer in refused} == {FAILURES}
    assert not any("softstate-position" in answer.headers for answer in refused), "it would tell how much is published"
    assert all(int(answer["retry-after"]) * 1_000 >= answer.json["retry_ms"] for answer in refused)
    waits = [answer.json["retry_ms"] for answer in refused]
    assert PREPARED / 2 < len(set(waits)) <= PREPARED, "not all at the same time"
    mock_clock.jump(PREPARED_S)
    later = await guarded.exchange(presenting(forged(PREPARED, "later")))
    assert not {answer.json["retry_ms"] for answer in later} <= set(waits), "others are prepared by then"
    assert guarded.gate.limited[FAILURES] == 3 * PREPARED + 1


async def test_what_is_prepared_for_tokens_is_what_is_written_for_one(guarded: FakeNode) -> None:
    await guarded.exchange(presenting(forged(BURST)))
    prepared, other, alone = await guarded.exchange(
        presenting(["x"])
        + presenting(["y"], "/metrics")
        + presenting(["z"], "/v1/topics/a", "Origin: http://good.example")
    )
    same = {name: value for name, value in alone.headers.items() if not name.startswith("access-control-")}
    varying = ("retry-after", "content-length", "date")
    assert prepared.headers.keys() == same.keys()
    assert all(prepared[name] == same[name] for name in same if name not in varying)
    assert (other.status, "softstate-level" in other.headers, "softstate-level" in same) == (429, False, True)


async def test_a_handshake_whose_token_is_not_looked_at_is_refused_alike(guarded: FakeNode) -> None:
    await guarded.exchange(presenting(forged(BURST)))
    refused, again = await guarded.exchange(UPGRADE.replace(b"Host", b"Authorization: Bearer x\r\nHost") + GET)
    assert (refused.status, again.status) == (429, 200)


async def test_refusals_are_prepared_for_few_networks(guarded: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NETWORKS_KEPT", 2)
    for number in range(5):
        guarded.peer_name = f"10.0.0.{number}:80"
        assert statuses(await guarded.exchange(presenting(forged(BURST + 2, str(number))))) == [401] * BURST + [429] * 2
        assert 1 <= len(guarded.http._shedding._unseen) <= 2


async def test_publishes_and_probes_and_single_topics_are_not_shed() -> None:
    get = GET.replace(b"/healthz", b"/v1/topics/a")
    assert statuses(await shedding().exchange(GET + PUT + get)) == [200, 200, 200]


@pytest.mark.parametrize("request_", [UPGRADE, POLL], ids=["upgrade", "poll"])
async def test_what_is_prepared_is_what_is_written_for_one(request_: bytes) -> None:
    """A page of an allowed origin gets headers of its own: its refusal is not a prepared one."""
    node = FakeNode(origins=("http://good.example",))
    node.admission.shed_s = 2.5
    node.admission.draws = -1
    prepared, alone = await node.exchange(request_ + request_.replace(b"Host", b"Origin: http://good.example\r\nHost"))
    assert prepared.json["retry_ms"] == alone.json["retry_ms"] - 1_000
    same = {name: value for name, value in alone.headers.items() if not name.startswith("access-control-")}
    changed = {"retry-after": str(int(same["retry-after"]) - 1)}
    assert prepared.headers == {**same, **changed}


async def test_a_body_that_was_refused_is_no_part_of_the_next_request(nursery: trio.Nursery) -> None:
    """Bodies that come behind their heads, as proxies send them, of clients that share a connection to the node."""
    node = shedding()
    peer = Peer(node, nursery)
    head, body = POLL.replace(b"th: 2", b"th: 18")[:-2], b'{"topics":{"a":0}}'
    answers = []
    for shed_s in (2.5, 2.5, None, 2.5, None):
        node.admission.shed_s = shed_s
        await peer.send(head)
        await peer.send(body)
        answers.append(await peer.answer())
    assert statuses(answers) == [503, 503, 200, 503, 200]


async def test_a_refusal_is_in_the_codec_that_its_peer_reads() -> None:
    accepting = POLL.replace(b"Host", b"Accept: application/cbor\r\nHost")
    one, other, third = await shedding().exchange(accepting + POLL + accepting)
    assert one.cbor["code"] == third.cbor["code"] == other.json["code"] == "overloaded"


async def test_a_refusal_of_head_has_no_body() -> None:
    one, two = await shedding().exchange(LIST.replace(b"GET", b"HEAD") + GET, heads=[0])
    assert (one.status, two.status) == (503, 200)


@pytest.mark.parametrize("close", [True, False])
async def test_a_refusal_closes_if_its_peer_wants_that_or_the_node_drains(close: bool) -> None:
    node = shedding()
    node.draining = not close
    request = POLL.replace(b"Host", b"Connection: close\r\nHost") if close else POLL
    [answer] = await node.exchange(request + GET)
    assert (answer.status, answer["connection"]) == (503, "close")


async def test_times_are_drawn_for_some_and_again_after_a_moment(autojump_clock: trio.testing.MockClock) -> None:
    node = shedding(1.0)
    answers = await node.exchange(POLL * (3 * PREPARED))
    assert node.admission.draws == PREPARED
    times = [answer.json["retry_ms"] for answer in answers]
    assert times[:PREPARED] == [1_000 * (1 + number) for number in range(PREPARED)]
    assert sorted(times[PREPARED : 2 * PREPARED]) == times[:PREPARED], "each is given out as often as the others"
    await trio.sleep(PREPARED_S)
    await node.exchange(POLL)
    assert node.admission.draws == PREPARED + 1


async def test_refusals_are_counted() -> None:
    node = shedding()
    await node.exchange(POLL * 3 + UPGRADE)
    assert node.http.statistics().replies == {("/v1/poll", 503): 3, ("/v1/ws", 503): 1}


# Waiting -------------------------------------------------------------------------------------------------------------


async def waiting(nursery: trio.Nursery, request: bytes) -> tuple[FakeNode, Peer]:
    """Return a node, and a peer whose request waits there to be admitted."""
    node = FakeNode()
    node.admission.keeps = True
    peer = Peer(node, nursery)
    await peer.send(request)
    assert len(node.admission.waiting) == 1
    return node, peer


async def test_the_age_counts_from_the_request_however_old_its_connection_is(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """A client may connect long before it asks: that is no reason to refuse it."""
    node = FakeNode()
    peer, other = Peer(node, nursery), Peer(node, nursery)
    await trio.sleep(5)
    await peer.send(POLL)
    await trio.sleep(2)
    await peer.send(POLL)
    await other.send(UPGRADE[:9])
    await trio.sleep(1)
    await other.send(UPGRADE[9:])
    assert node.admission.since == [5, 7, 8]


@pytest.mark.parametrize("answered", [False, True])
async def test_the_time_in_the_queue_of_the_system_counts_for_the_first_request(
    answered: bool, autojump_clock: trio.testing.MockClock
) -> None:
    node = FakeNode()
    node.admission.keeps = True
    wire = FakeWire()
    peer = node.http.open(wire, "peer", 2.5)
    wire.attach(peer)
    wire.arrive(GET if answered else POLL)
    wire.arrive(POLL)
    assert node.admission.since == ([0] if answered else [-2.5])


async def test_a_client_that_gives_up_its_handshake_leaves_the_queue(nursery: trio.Nursery) -> None:
    node, peer = await waiting(nursery, UPGRADE)
    await peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert (node.admission.waiting, node.http.statistics().connections, node.http.greeting) == ({}, 0, 0)


async def test_a_client_that_gives_up_a_handshake_behind_another_request_leaves_the_queue(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The node has stopped to read: more came behind the handshake while that request was answered."""
    node = FakeNode()
    node.admission.keeps = True
    wire = FakeWire()
    wire.attach(node.http.open(wire, "peer"))
    wire.arrive(PUT + UPGRADE)
    wire.arrive(b"frame")
    assert not wire.reading
    await trio.testing.wait_all_tasks_blocked()
    wire.go_on()
    assert len(node.admission.waiting) == 1
    wire.end()
    assert (node.admission.waiting, node.http.statistics().connections, wire.closed) == ({}, 0, True)


async def test_frames_that_come_while_a_handshake_waits_are_handed_over(nursery: trio.Nursery) -> None:
    node, peer = await waiting(nursery, UPGRADE + b"fra")
    await peer.send(b"me")
    node.admission.admit_next()
    [(handshake, _)] = node.upgrades
    assert handshake.behind == b"frame"


async def test_a_peer_that_sends_on_and_on_while_its_handshake_waits_is_not_read(nursery: trio.Nursery) -> None:
    node, peer = await waiting(nursery, UPGRADE)
    for _ in range(40):
        await peer.send(b"x" * 1_024)
    node.admission.admit_next()
    [(handshake, _)] = node.upgrades
    assert node.config.head_bytes_max < len(handshake.behind) < node.config.head_bytes_max + 32 * 1_024


async def test_a_half_closed_peer_gets_the_answer_to_a_poll_that_waits(nursery: trio.Nursery) -> None:
    node, peer = await waiting(nursery, POLL)
    await peer.stream.send_eof()
    await trio.testing.wait_all_tasks_blocked()
    node.admission.admit_next()
    assert statuses(parse(await read_all(peer.stream))) == [200]


async def test_a_poll_that_waits_leaves_the_queue_with_its_connection(nursery: trio.Nursery) -> None:
    node, _ = await waiting(nursery, POLL)
    [applicant] = node.admission.waiting
    applicant.end()  # type: ignore[attr-defined]
    assert (node.admission.waiting, node.http.statistics().connections) == ({}, 0)


async def test_a_handshake_that_waits_while_the_node_drains_is_refused(nursery: trio.Nursery) -> None:
    node, peer = await waiting(nursery, UPGRADE)
    node.draining = True
    node.http.drain()
    node.admission.admit_next()
    [answer] = await peer.end()
    assert (answer.status, answer.code, answer["connection"]) == (503, "unavailable", "close")
    assert node.upgrades == []


async def test_no_time_is_over_while_a_request_waits(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    node, peer = await waiting(nursery, POLL)
    await trio.sleep(1_000)
    node.admission.admit_next()
    await trio.testing.wait_all_tasks_blocked()
    assert statuses(await peer.end()) == [200]


# The first answer ----------------------------------------------------------------------------------------------------


async def answer_at_once(node: FakeNode, peer: Peer) -> None:
    await peer.send(GET)


async def refuse(node: FakeNode, peer: Peer) -> None:
    await peer.send(b"nonsense\r\n\r\n")


async def upgrade(node: FakeNode, peer: Peer) -> None:
    await peer.send(UPGRADE)


async def leave(node: FakeNode, peer: Peer) -> None:
    await peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()


async def shed(node: FakeNode, peer: Peer) -> None:
    node.admission.shed_s = 1.0
    await peer.send(POLL)


@pytest.mark.parametrize("act", [answer_at_once, refuse, upgrade, leave, shed])
async def test_a_connection_is_greeted_by_its_first_answer(
    act: Callable[[FakeNode, Peer], object], nursery: trio.Nursery
) -> None:
    node = FakeNode()
    peer, other = Peer(node, nursery), Peer(node, nursery)
    await trio.testing.wait_all_tasks_blocked()
    assert node.http.greeting == 2
    await act(node, peer)  # type: ignore[misc]
    assert node.http.greeting == 1
    await leave(node, other)
    assert node.http.greeting == 0


def test_every_kind_has_words() -> None:
    assert set(_WORDS) == set(Kind)
