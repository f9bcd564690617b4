"""Messages of a peer to TLS itself: how many it may send, and how often."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from softstate.server.edge.tls import (
    RECORD_BYTES,
    RECORD_BYTES_SPARE,
    SILENT_BYTES_MAX,
    SILENT_BYTES_PER_S,
    TOO_SILENT,
    Tls,
)
from tests.kit.certificates import Authority, TlsClient
from tests.kit.tls_records import Records
from tests.kit.tls_rig import Rig, has_ended


class Flooded(Rig):
    """A rig whose client seals records by itself; `failures` is what was told of TLS, and `now` its clock."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        pair, made = authority.node(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(pair.cert, pair.key)
        context = authority.trusting()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.keylog_filename = str(folder / "keys")
        self.now = 1_000.0
        self.failures: list[tuple[str, str, str]] = []
        tls = Tls(made, lambda: self.now)
        tls.failed = lambda *told: self.failures.append(told)
        super().__init__(tls, TlsClient(context))
        self.shake()
        self.wire.address = "192.0.2.1:4711"
        self.records = Records(folder / "keys")
        self.say(b"!")

    def say(self, data: bytes, padding: int = 0) -> None:
        self.socket.arrive(self.records.data(data, padding))

    def update(self, times: int, *, asked: bool = True) -> None:
        self.socket.arrive(b"".join(self.records.key_update(asked=asked) for _ in range(times)))


UPDATE_BYTES = 27


@pytest.fixture
def rig(tmp_path: Path) -> Flooded:
    return Flooded(tmp_path)


@pytest.mark.parametrize("asked", [True, False])
def test_a_peer_may_change_its_keys_now_and_then_and_not_without_an_end(rig: Flooded, asked: bool) -> None:
    rig.update(SILENT_BYTES_MAX // UPDATE_BYTES, asked=asked)
    assert not has_ended(rig)
    assert rig.failures == []
    rig.update(1, asked=asked)
    assert has_ended(rig)
    assert rig.socket.closed
    assert rig.failures == [("broken off", TOO_SILENT, "192.0.2.1:4711")]


def test_what_was_silent_is_forgiven_with_time(rig: Flooded) -> None:
    rig.update(SILENT_BYTES_MAX // UPDATE_BYTES)
    for _ in range(10):
        rig.now += 100.0
        rig.update(100 * SILENT_BYTES_PER_S // UPDATE_BYTES)
    assert not has_ended(rig)
    rig.update(2)
    assert has_ended(rig)


def test_data_pay_for_no_more_than_a_little(rig: Flooded) -> None:
    each = RECORD_BYTES_SPARE // UPDATE_BYTES
    for _ in range(200):
        rig.update(each)
        rig.say(b"x")
    assert not has_ended(rig)
    for _ in range(200):
        rig.update(2 * each)
        rig.say(b"x")
    assert has_ended(rig)


def test_records_that_come_in_pieces_or_padded_are_no_silence(rig: Flooded) -> None:
    whole = b"".join(rig.records.data(bytes(RECORD_BYTES), 1) for _ in range(3))
    for at in range(0, len(whole), 1_000):
        rig.socket.arrive(whole[at : at + 1_000])
    for _ in range(200):
        rig.say(b"x", RECORD_BYTES_SPARE - UPDATE_BYTES)
    assert len(rig.peer.received) == 1 + 3 * RECORD_BYTES + 200
    assert not has_ended(rig)


def test_all_that_is_received_at_once_is_little(rig: Flooded) -> None:
    """A turn of the loop handles what one call receives."""
    assert max(rig.socket.asked) <= RECORD_BYTES // 2
