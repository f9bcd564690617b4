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
    head, key, _ = known.read(GET)
    assert (head.path, key) == ("/a", b"")
    assert known.read(bytes(bytearray(GET)))[0] is head
    assert known.read(GET.replace(b"/a", b"/b"))[0].path == "/b"


def test_handshakes_that_differ_in_their_key_alone_are_equal() -> None:
    known = KnownHeads(10)
    head, key, _ = known.read(with_key(KEY))
    assert (key, head.headers) == (KEY, {b"host": b"a", b"upgrade": b"websocket"})
    assert known.read(with_key(OTHER_KEY)) == (head, OTHER_KEY, None)
    assert known.read(with_key(KEY, b"X: 1"))[0] is not head
    assert len(known) == 2


def test_a_head_without_the_key_of_a_known_handshake_has_none() -> None:
    known = KnownHeads(10)
    head, _, _ = known.read(with_key(KEY))
    assert known.read(with_lines(b"Upgrade: websocket")) == (head, b"", None)


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
        head, found, _ = known.read(raw)
        assert (found, b"sec-websocket-key" in head.headers) == (key, False)
    assert not len(known)


def test_a_second_key_behind_a_known_handshake_is_found() -> None:
    """The head without its first key is not the known one."""
    known = KnownHeads(10)
    known.read(with_key(KEY))
    _, key, _ = known.read(with_key(KEY, b"Sec-WebSocket-Key: " + OTHER_KEY))
    assert key == KEY + b", " + OTHER_KEY


@pytest.mark.parametrize("name", [b"cookie", b"Proxy-Authorization"])
def test_credentials_are_not_remembered(name: bytes) -> None:
    known = KnownHeads(10)
    known.read(with_lines(name + b": secret"))
    known.read(with_key(KEY, name + b": secret"))
    known.read(with_lines(b"Authorization: Bearer a", name + b": secret"))
    assert not len(known)


TOKEN, OTHER_TOKEN = b"Bearer a.b-c_d~e+f/g=", b"bearer " + b"x" * 2_000


def test_heads_that_differ_in_their_token_alone_are_equal_and_no_token_is_remembered() -> None:
    known = KnownHeads(10)
    head, _, token = known.read(with_lines(b"Authorization: " + TOKEN, b"X: 1"))
    assert (token, head.headers) == (TOKEN, {b"host": b"a", b"x": b"1"})
    assert known.read(with_lines(b"Authorization: " + OTHER_TOKEN, b"X: 1")) == (head, b"", OTHER_TOKEN)
    assert known.read(with_lines(b"X: 1", b"authorization: " + OTHER_TOKEN)) == (head, b"", OTHER_TOKEN)
    assert known.read(with_lines(b"Authorization: " + TOKEN, b"X: 2"))[0] is not head
    assert len(known) == 2
    assert not [raw for raw in known._heads if b"earer" in raw or b"xx" in raw]


def test_a_head_with_a_token_and_one_without_are_two() -> None:
    known = KnownHeads(2)
    known.read(with_lines(b"X: 1"))
    with pytest.raises(Refused, match="3 headers, the limit is 2"):
        known.read(with_lines(b"X: 1", b"Authorization: " + TOKEN))
    assert known.read(with_lines(b"X: 1"))[2] is None
    head, _, token = known.read(with_lines(b"Authorization: " + TOKEN))
    assert known.read(GET) == (known.read(GET)[0], b"", None)
    assert (known.read(GET)[0] is head, token) == (False, TOKEN)


def test_a_handshake_with_a_token_is_remembered_without_both() -> None:
    known = KnownHeads(10)
    head, key, token = known.read(with_key(KEY, b"Authorization: " + TOKEN))
    assert (key, token, head.headers) == (KEY, TOKEN, {b"host": b"a", b"upgrade": b"websocket"})
    assert known.read(with_key(OTHER_KEY, b"Authorization: " + OTHER_TOKEN)) == (head, OTHER_KEY, OTHER_TOKEN)
    assert known.read(with_key(KEY))[2] is None


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([b"Authorization: " + TOKEN, b"Authorization: " + TOKEN], TOKEN + b", " + TOKEN),
        ([b"Authorization: " + TOKEN, b"AUTHORIZATION:" + OTHER_TOKEN], TOKEN + b", " + OTHER_TOKEN),
        ([b"Authorization: " + TOKEN + b" "], TOKEN),
        ([b"Authorization: Basic YTpi"], b"Basic YTpi"),
        ([b"Authorization: Bearer \xfc"], b"Bearer \xfc"),
        ([b"Authorization: Bearer"], b"Bearer"),
        ([b"Authorization:"], b""),
    ],
)
def test_credentials_that_are_written_otherwise_are_handed_out_and_not_remembered(
    lines: list[bytes], told: bytes
) -> None:
    known = KnownHeads(10)
    for _ in range(2):
        head, _, token = known.read(with_lines(*lines))
        assert (token, b"authorization" in head.headers) == (told, False)
    assert not len(known)


def test_a_second_token_behind_a_known_head_is_found() -> None:
    known = KnownHeads(10)
    known.read(with_lines(b"Authorization: " + TOKEN))
    assert known.read(with_lines(b"Authorization: " + TOKEN, b"Authorization: x"))[2] == TOKEN + b", x"


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
