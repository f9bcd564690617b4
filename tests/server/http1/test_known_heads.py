import pytest

from softstate.server.http1 import KnownHeads, Refused
from softstate.server.http1.known_heads import HEAD_BYTES_KEPT, HEADS_KEPT

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
KEY, OTHER_KEY = b"dGhlIHNhbXBsZSBub25jZQ==", b"bm90IHRoaXMgb25lISEhIQ=="


def with_lines(*lines: bytes) -> bytes:
    return GET[:-2] + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def with_key(key: bytes, *lines: bytes) -> bytes:
    return with_lines(b"Upgrade: websocket", b"Sec-WebSocket-Key: " + key, *lines)


def test_equal_heads_are_read_once() -> None:
    known = KnownHeads(10)
    head, key = known.read(GET)
    assert (head.path, key) == ("/a", b"")
    assert known.read(bytes(bytearray(GET)))[0] is head
    assert known.read(GET.replace(b"/a", b"/b"))[0].path == "/b"


def test_handshakes_that_differ_in_their_key_alone_are_equal() -> None:
    known = KnownHeads(10)
    head, key = known.read(with_key(KEY))
    assert (key, head.headers) == (KEY, {b"host": b"a", b"upgrade": b"websocket"})
    assert known.read(with_key(OTHER_KEY)) == (head, OTHER_KEY)
    assert known.read(with_key(KEY, b"X: 1"))[0] is not head
    assert len(known) == 2


def test_a_head_without_the_key_of_a_known_handshake_has_none() -> None:
    known = KnownHeads(10)
    head, _ = known.read(with_key(KEY))
    assert known.read(with_lines(b"Upgrade: websocket")) == (head, b"")


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (with_key(KEY, b"Sec-WebSocket-Key: " + OTHER_KEY), KEY + b", " + OTHER_KEY),
        (with_key(KEY, b"sec-websocket-key:" + KEY), KEY + b", " + KEY),
        (with_lines(b"Sec-WebSocket-Key:" + KEY), KEY),
        (with_lines(b"Sec-WebSocket-Key: nonsense"), b"nonsense"),
    ],
)
def test_a_key_that_is_written_otherwise_is_handed_out_and_not_remembered(raw: bytes, key: bytes) -> None:
    known = KnownHeads(10)
    for _ in range(2):
        head, found = known.read(raw)
        assert (found, b"sec-websocket-key" in head.headers) == (key, False)
    assert not len(known)


def test_a_second_key_behind_a_known_handshake_is_found() -> None:
    """The head without its first key is not the known one."""
    known = KnownHeads(10)
    known.read(with_key(KEY))
    _, key = known.read(with_key(KEY, b"Sec-WebSocket-Key: " + OTHER_KEY))
    assert key == KEY + b", " + OTHER_KEY


@pytest.mark.parametrize("name", [b"Authorization", b"cookie", b"Proxy-Authorization"])
def test_credentials_are_not_remembered(name: bytes) -> None:
    known = KnownHeads(10)
    known.read(with_lines(name + b": secret"))
    known.read(with_key(KEY, name + b": secret"))
    assert not len(known)


def test_a_head_of_so_many_bytes_is_remembered_and_no_longer_one() -> None:
    known = KnownHeads(10)
    spare = HEAD_BYTES_KEPT - len(with_lines(b"X: "))
    known.read(with_lines(b"X: " + b"x" * (spare + 1)))
    assert not len(known)
    known.read(with_lines(b"X: " + b"x" * spare))
    assert len(known) == 1


def test_so_many_are_remembered() -> None:
    known = KnownHeads(10)
    for number in range(HEADS_KEPT):
        known.read(GET.replace(b"/a", b"/%d" % number))
    assert len(known) == HEADS_KEPT
    known.read(GET)
    assert len(known) == 1


def test_a_head_that_is_refused_is_refused_again() -> None:
    known = KnownHeads(1)
    for _ in range(2):
        with pytest.raises(Refused):
            known.read(with_lines(b"X: 1"))
    assert not len(known)
