"""TLS on a wire: what a peer is told and may write, in whichever pieces bytes come and go."""

from __future__ import annotations

import math
import random
import ssl
from pathlib import Path

import pytest

from softstate.server.edge.tls import PLAIN_TEXT, RECORD_BYTES, SEALED_BYTES_MAX, Tls
from softstate.server.fanout.outbox import Outbox, OutboxBounds
from tests.kit.certificates import Authority, TlsClient
from tests.kit.fake_socket import CLOSE, frames_in, text
from tests.kit.tls_rig import Rig, has_ended


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> Tls:
    pair = authority.node()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pair.cert, pair.key)
    return Tls(context)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def client(authority: Authority, request: pytest.FixtureRequest) -> TlsClient:
    context = authority.trusting()
    context.maximum_version = request.param
    return TlsClient(context)


def test_bytes_pass_both_ways(tls: Tls, client: TlsClient) -> None:
    rig = Rig(tls, client).shake()
    rig.socket.arrive(client.say(b"question"))
    assert rig.peer.received == b"question"
    rig.peer.send(b"answer")
    assert rig.heard() == b"answer"
    assert rig.wire.secure
    assert not rig.socket.secure


def test_a_handshake_may_come_and_go_byte_by_byte(tls: Tls, client: TlsClient) -> None:
    rig = Rig(tls, client, free_bytes=0)
    rig.peer.send(b"early")
    data = client.begin()
    while data:
        for at in range(len(data)):
            rig.socket.arrive(data[at : at + 1])
        data = b""
        while rig.socket.wanted:
            rig.socket.allow(1)
            data += rig.answer()
    for part in client.say(b"question"):
        rig.socket.arrive(bytes([part]))
    assert rig.peer.received == b"question"
    rig.socket.allow()
    assert rig.heard() == b"early"


def test_a_handshake_cut_at_every_byte_ends_its_peer_and_nothing_else(authority: Authority, tls: Tls) -> None:
    whole = len(TlsClient(authority.trusting()).begin())
    for cut in range(whole):
        rig = Rig(tls, TlsClient(authority.trusting()))
        rig.socket.arrive(rig.client.begin()[:cut])
        assert not has_ended(rig)
        rig.socket.end()
        assert has_ended(rig)
        assert rig.socket.closed


def test_a_record_that_is_longer_than_its_peer_reads_at_once_is_read_without_more_bytes(
    tls: Tls, client: TlsClient
) -> None:
    rig = Rig(tls, client).shake()
    rig.peer.portion = 1_000
    data = bytes(range(256)) * 150
    rig.socket.arrive(client.say(data))
    assert rig.peer.received == data


def test_what_was_received_waits_while_its_peer_does_not_read(tls: Tls, client: TlsClient) -> None:
    rig = Rig(tls, client).shake()
    rig.peer.portion = 3
    rig.socket.incoming += client.say(b"question")
    rig.wire.readable()
    assert rig.peer.received == b"que"
    rig.wire.want_read(False)
    rig.socket.go_on()
    rig.wire.want_read(True)
    rig.socket.go_on()
    assert rig.peer.received == b"question"


def test_a_peer_that_does_not_read_is_not_read_once_the_handshake_is_over(tls: Tls, client: TlsClient) -> None:
    rig = Rig(tls, client)
    rig.wire.want_read(False)
    assert rig.socket.reading
    rig.shake()
    assert not rig.socket.reading


@pytest.mark.parametrize("size", [2, 3, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, RECORD_BYTES + 2, 40_000])
def test_no_byte_is_lost_or_sent_twice_whatever_the_socket_takes(tls: Tls, client: TlsClient, size: int) -> None:
    rig = Rig(tls, client).shake()
    rig.socket.free_bytes = 0
    data = random.Random(size).randbytes(size)
    rig.peer.send(data)
    assert rig.peer.rest
    steps = random.Random(size)
    while rig.peer.rest:
        rig.socket.allow(steps.choice([1, 5, 22, 100, 5_000]))
    # All that its peer takes for sent has left.
    assert rig.heard() == data


def test_sealed_bytes_count_as_taken_and_only_the_last_one_waits(tls: Tls, client: TlsClient) -> None:
    rig = Rig(tls, client).shake()
    rig.socket.free_bytes = 10
    assert rig.wire.try_send(b"a" * 40_000) == RECORD_BYTES
    assert rig.wire.try_send(b"b" * 100) == 0, "nothing is sealed while something sealed waits"
    rig.socket.free_bytes = 30_000
    assert rig.wire.try_send(b"b" * 100) == 100
    rig.socket.free_bytes = 10
    assert rig.wire.try_send(b"c" * 100) == 99
    assert rig.wire.try_send(b"c") == 0
    rig.socket.free_bytes = math.inf
    assert rig.wire.try_send(b"c") == 1
    assert rig.heard() == b"a" * RECORD_BYTES + b"b" * 100 + b"c" * 100


@pytest.mark.parametrize("seed", range(40))
def test_an_outbox_over_tls_tears_and_loses_nothing_under_congestion(authority: Authority, tls: Tls, seed: int) -> None:
    draw = random.Random(seed)
    rig = Rig(tls, TlsClient(authority.trusting())).shake()
    bounds = OutboxBounds(1_000_000, 1 << 30, 1e9, lambda: 0.0)
    box = Outbox(rig.wire.try_send, rig.wire.want_write, lambda: pytest.fail("overdue"), bounds)
    rig.peer.writable = box.writable  # type: ignore[method-assign]
    newest: dict[str, int] = {}
    dropped: set[str] = set()
    replies: list[str] = []
    data = b""
    for number in range(400):
        for _ in range(draw.choice([0, 1, 1, 20])):
            topic = f"t{draw.randrange(12)}"
            newest[topic] = number
            dropped.discard(topic)
            box.notify(topic, text(f"{topic}={number}", draw.choice([0, 3, 100, 125, 126, 4_000, 16_380, 20_000])))
        if draw.random() < 0.1:
            replies.append(f"r{number}")
            box.reply(text(f"r{number}"))
        if draw.random() < 0.03:
            dropped |= newest.keys()
            box.drop()
        box.flush()
        if rig.socket.free_bytes is math.inf or draw.random() < 0.3:
            rig.socket.free_bytes = draw.choice([0, 1, 21, 22, 23, 200, 16_406, 60_000])
        if rig.socket.wanted and draw.random() < 0.7:
            rig.wire.writable()
    box.close(CLOSE)
    box.flush()
    while len(box):
        rig.socket.allow(draw.choice([1, 22, 1_000, 100_000]))
    data = rig.heard()
    frames = frames_in(data)
    assert frames.pop() == ""
    assert [frame for frame in frames if "=" not in frame] == replies
    last = {topic: int(number) for topic, _, number in (frame.partition("=") for frame in frames if "=" in frame)}
    for topic, number in newest.items():
        assert last.get(topic) == number or topic in dropped, (topic, number)
    assert sum("=" in frame for frame in frames) == box.sent


def test_what_follows_the_last_byte_does_not_come_before_it(tls: Tls, client: TlsClient) -> None:
    rig = Rig(tls, client).shake()
    rig.socket.free_bytes = 0
    rig.peer.send(b"last words")
    rig.socket.allow(31)
    assert rig.peer.rest, "until the socket has all, the end must not come"
    rig.socket.allow()
    rig.wire.shut()
    assert rig.socket.was_shut
    assert rig.heard() == b"last words"
    with pytest.raises(BrokenPipeError):
        rig.wire.try_send(b"more")
    rig.socket.arrive(client.say(b"what it still sends"))
    assert rig.peer.received
    rig.socket.end()
    assert rig.peer.ended


def test_the_end_waits_until_the_socket_takes_that_it_comes(tls: Tls, client: TlsClient) -> None:
    rig = Rig(tls, client).shake()
    rig.socket.free_bytes = 0
    rig.wire.shut()
    assert rig.socket.wanted
    rig.socket.allow()
    assert rig.socket.was_shut
    assert rig.heard() == b""


def test_a_peer_may_say_that_it_sends_no_more_and_is_answered_all_the_same(tls: Tls, client: TlsClient) -> None:
    rig = Rig(tls, client).shake()
    rig.peer.end = lambda: setattr(rig.peer, "ended", True)  # type: ignore[method-assign]
    rig.socket.arrive(client.say(b"question") + client.close())
    assert rig.peer.received == b"question"
    assert rig.peer.ended
    assert rig.wire.hung_up()
    rig.peer.send(b"answer")
    assert rig.socket.taken


def test_one_that_breaks_off_has_ended(tls: Tls, client: TlsClient) -> None:
    rig = Rig(tls, client).shake()
    whole = client.say(b"question")
    rig.socket.arrive(whole[:-1])
    assert rig.peer.received == b""
    rig.socket.end()
    assert rig.peer.ended
    assert rig.peer.received == b""


def test_bytes_that_were_changed_end_the_connection(tls: Tls, client: TlsClient) -> None:
    rig = Rig(tls, client).shake()
    whole = bytearray(client.say(b"question"))
    whole[-1] ^= 1
    rig.socket.arrive(bytes(whole))
    assert rig.peer.received == b""
    assert rig.peer.ended
    with pytest.raises(ssl.SSLError, match=r"(?i)bad record mac|decryption failed"):
        rig.heard()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: n\r\n\r\n", b"P", b"\x16\x03", b"\x00\x00\x00\x01" * 100])
def test_what_is_no_tls_gets_an_answer_and_is_read_until_its_end(tls: Tls, client: TlsClient, data: bytes) -> None:
    rig, before = Rig(tls, client), tls.refused
    rig.socket.arrive(data)
    if data[:1].isalpha():
        reply = bytes(rig.socket.taken)
        head, body = reply.split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"Content-Length: %d" % len(body) in head
        assert PLAIN_TEXT.encode() in body
    if data[:1] != b"\x16":
        assert rig.socket.was_shut
        assert tls.refused == before + 1
    assert not rig.socket.closed
    assert rig.wire.try_send(b"a reply") == 0
    rig.wire.want_write(True)
    assert not rig.socket.wanted, "or the socket would be told of without an end"
    rig.wire.want_read(False)
    rig.socket.arrive(b"more")
    rig.socket.end()
    assert rig.peer.ended
    assert rig.socket.closed


def test_one_whose_handshake_was_refused_may_go_on_for_so_long(tls: Tls, client: TlsClient) -> None:
    rig = Rig(tls, client)
    rig.socket.arrive(b"GET /")
    for _ in range(7):
        rig.socket.arrive(bytes(8_192))
    assert not rig.peer.ended
    rig.socket.arrive(bytes(10_000))
    assert rig.peer.ended


def test_a_client_that_trusts_another_authority_ends_its_connection_alone(tls: Tls, tmp_path: Path) -> None:
    rig, before = Rig(tls, TlsClient(Authority(tmp_path).trusting())), tls.refused
    with pytest.raises(ssl.SSLCertVerificationError):
        rig.shake()
    rig.socket.arrive(rig.client.outgoing())
    assert tls.refused == before + 1
    rig.socket.end()
    assert rig.peer.ended


def test_one_that_asks_tls_for_answers_and_reads_none_is_left(
    tls: Tls, client: TlsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KeyUpdate of TLS 1.3 can be asked for without an end; Python's clients cannot ask."""
    rig = Rig(tls, client).shake()
    rig.socket.free_bytes = 0
    for size in (SEALED_BYTES_MAX - 100, 100, 1):
        assert not rig.peer.ended
        monkeypatch.setattr(rig.wire, "_outgoing", Owed(bytes(size)))
        rig.socket.arrive(client.say(b"x"))
    assert rig.peer.ended


class Owed:
    """Stands in for OpenSSL's buffer, with so much in it."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def pending(self) -> int:
        return len(self.data)

    def read(self) -> bytes:
        data, self.data = self.data, b""
        return data


def test_a_socket_that_breaks_ends_the_peer(tls: Tls, client: TlsClient) -> None:
    rig = Rig(tls, client).shake()
    rig.socket.free_bytes = 0
    rig.peer.send(b"never")
    rig.socket.snap()
    assert rig.peer.ended
    with pytest.raises(BrokenPipeError):
        rig.wire.try_send(b"more")
    broken = Rig(tls, TlsClient(ssl.create_default_context()))
    broken.socket.broken = True
    broken.shake()
    assert broken.peer.ended
