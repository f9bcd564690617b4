"""The state of one connection: limits, bodies on demand, pipelines, upgrades, and the end of either side."""

from __future__ import annotations

import pytest

from softstate.server.config import ServerConfig
from softstate.server.http1 import CONTINUE, Conversation, Refused, Reply, RequestHead
from softstate.server.http1.chunked import CHUNKS_PER_FEED
from tests.server.http1.conversing import CONFIG, converse

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
OK = Reply(200, b"x")
END = b"\r\n\r\n"


def asked(conversation: Conversation, data: bytes) -> RequestHead:
    event = conversation.feed(data)
    assert isinstance(event, RequestHead)
    return event


def body_of(conversation: Conversation, data: bytes) -> bytes | None:
    """Feed a head, and return the body that came with it."""
    asked(conversation, data)
    return conversation.body


def refused(conversation: Conversation, data: bytes = b"") -> Refused:
    event = conversation.feed(data)
    assert isinstance(event, Refused)
    assert reads_no_more(conversation)
    return event


def reads_no_more(conversation: Conversation) -> bool:
    """Tell whether what comes from now on is thrown away, and not kept for later."""
    return conversation.feed(GET) is None and conversation.buffered == 0


def padded(size: int) -> bytes:
    return GET[:-2] + b"X: " + b"x" * (size - len(GET) - 5) + END


# Limits --------------------------------------------------------------------------------------------------------------


def test_the_last_byte_of_a_head_fits_and_the_next_is_too_large() -> None:
    for chunk in (1, 7, 1 << 20):
        assert converse(padded(CONFIG.head_bytes_max), chunk).requests == [("GET", "/a", b"")]
        seen = converse(GET + padded(CONFIG.head_bytes_max + 1), chunk)
        assert (len(seen.requests), seen.refused) == (1, 431)
        assert "head_bytes_max" in seen.why


def test_a_head_that_does_not_end_is_refused_when_it_is_too_large() -> None:
    conversation = Conversation(CONFIG)
    assert conversation.feed(padded(2_000)[: CONFIG.head_bytes_max]) is None
    assert refused(conversation, b"x").status == 431


def test_empty_lines_ahead_count_as_the_head() -> None:
    spare = CONFIG.head_bytes_max - len(GET)
    for chunk in (1, 2, 3, 1 << 20):
        assert converse(b"\r\n" * (spare // 2) + GET, chunk).requests == [("GET", "/a", b"")]
        assert converse(b"\r\n" * (spare // 2 + 1) + GET, chunk).refused == 431
        assert converse(b"\r\n" * CONFIG.head_bytes_max, chunk).refused == 431


def test_the_last_header_fits_and_the_next_is_too_many() -> None:
    for number, status in ((CONFIG.headers_max - 1, None), (CONFIG.headers_max, 431)):
        assert converse(GET[:-2] + b"X: 1\r\n" * number + b"\r\n").refused == status


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
def test_the_overhead_of_chunks_is_bounded(chunk: int) -> None:
    """The data of all chunks counts against the limit, and the line of each is bounded."""
    post = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%016x;%s\r\nx\r\n" % (1, b"a" * 200) for _ in range(500))
    assert converse(post + body + b"0\r\n\r\n", chunk).requests == [("POST", "/", b"x" * 500)]
    assert converse(post + body + b"1\r\nx\r\n0\r\n\r\n", chunk).refused == 413


@pytest.mark.parametrize("ended", [False, True])
def test_one_call_takes_so_many_chunks_and_the_next_goes_on(ended: bool) -> None:
    """Also if the peer has ended its side meanwhile: nothing is missing of its request."""
    conversation = Conversation(ServerConfig())
    assert body_of(conversation, POST.replace(b"Content-Length: 3", b"Transfer-Encoding: chunked")) is None
    conversation.go_on()
    assert conversation.feed(b"1\r\nx\r\n" * (2 * CHUNKS_PER_FEED) + b"0\r\n\r\nrest") is None
    for _ in range(2):
        assert conversation.behind
        event = conversation.end() if ended else conversation.feed()
        ended = False
    assert event == b"x" * (2 * CHUNKS_PER_FEED)
    assert not conversation.behind
    assert conversation.buffered == len(b"rest")


def test_a_body_over_the_limit_is_refused_before_it_is_asked_for() -> None:
    conversation = Conversation(CONFIG)
    assert body_of(conversation, POST.replace(b": 3", b": 501") + b"x" * 501) is None
    with pytest.raises(Refused) as caught:
        conversation.go_on()
    assert caught.value.status == 413
    assert b"Connection: close" in conversation.reply(OK, "")
    assert reads_no_more(conversation)


# Bodies --------------------------------------------------------------------------------------------------------------


def test_a_body_that_came_whole_is_in_the_head() -> None:
    conversation = Conversation(CONFIG)
    assert body_of(conversation, POST + b"abc" + GET) == b"abc"
    assert conversation.buffered == len(GET)
    assert conversation.feed() is None, "the reply is due"
    conversation.reply(OK, "")
    assert asked(conversation, b"").path == "/a"


def test_a_body_is_read_when_it_is_asked_for() -> None:
    conversation = Conversation(CONFIG)
    assert body_of(conversation, POST + b"a") is None
    assert conversation.feed(b"b") is None
    assert conversation.go_on() == b""
    assert conversation.feed() is None
    assert conversation.feed(b"c" + GET) == b"abc"
    assert b"close" not in conversation.reply(OK, "")
    assert asked(conversation, b"").path == "/a"


def test_a_request_whose_body_nobody_asked_for_is_the_last() -> None:
    conversation = Conversation(CONFIG)
    asked(conversation, POST + b"a")
    assert b"Connection: close" in conversation.reply(OK, "")
    assert reads_no_more(conversation)
    assert conversation.feed(b"bc" + GET) is None


@pytest.mark.parametrize("framing", [b"Content-Length: 3", b"Transfer-Encoding: chunked"])
def test_a_peer_that_waits_is_told_to_continue(framing: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n" + framing + END
    conversation = Conversation(CONFIG)
    asked(conversation, head)
    assert conversation.go_on() == CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        POST,
        POST[:-2] + b"Expect: 200-ok\r\n\r\n",
        POST.replace(b"1.1", b"1.0")[:-2] + b"Expect: 100-continue\r\n\r\n",
        POST[:-2] + b"Expect: 100-continue\r\n\r\na",
    ],
)
def test_nobody_else_is_told_to_continue(head: bytes) -> None:
    """Not in HTTP/1.0, and not when the body has begun to come (RFC 9110 section 10.1.1)."""
    conversation = Conversation(CONFIG)
    asked(conversation, head)
    assert conversation.go_on() == b""


def test_a_body_that_came_in_spite_of_expect_needs_no_word() -> None:
    assert body_of(Conversation(CONFIG), POST[:-2] + b"Expect: 100-continue\r\n\r\nabc") == b"abc"


# The end -------------------------------------------------------------------------------------------------------------


def test_the_end_between_requests_is_none() -> None:
    for data in (b"", b"\r\n", GET):
        conversation = Conversation(CONFIG)
        if conversation.feed(data):
            conversation.reply(OK, "")
        assert conversation.end() is None
        assert conversation.ended


@pytest.mark.parametrize("data", [b"G", GET[:-1], b"\r\n\r\nGET", b"\r", GET + b"G"])
def test_the_end_within_a_head_is_refused(data: bytes) -> None:
    assert converse(data, end=True).refused == 400
    assert converse(data, 1, end=True).refused == 400


@pytest.mark.parametrize("body", [b"", b"ab"])
def test_the_end_within_a_body_is_refused(body: bytes) -> None:
    for head in (POST, POST.replace(b"Content-Length: 3", b"Transfer-Encoding: chunked")):
        conversation = Conversation(CONFIG)
        asked(conversation, head + body)
        assert conversation.end() is None, "the body was not asked for"
        conversation.go_on()
        assert refused(conversation).status == 400


def test_requests_that_came_before_the_end_are_answered() -> None:
    conversation = Conversation(CONFIG)
    asked(conversation, GET + GET + POST + b"abc")
    assert conversation.end() is None
    for path in ("/a", "/p"):
        conversation.reply(OK, "")
        assert asked(conversation, b"").path == path
    conversation.reply(OK, "")
    assert conversation.feed() is None


def test_an_upgrade_takes_the_bytes_behind_the_head() -> None:
    conversation = Conversation(CONFIG)
    asked(conversation, GET + b"\x81\x00")
    assert conversation.feed(b"\x82") is None
    assert conversation.take_rest() == b"\x81\x00\x82"
    assert reads_no_more(conversation)
    assert conversation.feed(b"\x83") is None
    assert conversation.buffered == 0


# Replies -------------------------------------------------------------------------------------------------------------

BEGIN = b"HTTP/1.1 200 OK\r\nX-Content-Type-Options: nosniff\r\n"
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def test_a_reply() -> None:
    conversation = Conversation(CONFIG)
    asked(conversation, GET)
    reply = Reply(200, b"body", "text/plain", (("A", "1"), ("B", "\xff")))
    assert conversation.reply(reply, DATE) == (
        BEGIN + b"A: 1\r\nB: \xff\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"
    )
    assert conversation.reusable


@pytest.mark.parametrize("status", [204, 304])
def test_a_reply_without_a_body_has_no_length(status: int) -> None:
    conversation = Conversation(CONFIG)
    asked(conversation, GET)
    data = conversation.reply(Reply(status, b"never", headers=(("A", "1"),)), "")
    assert data.endswith(b"nosniff\r\nA: 1\r\n\r\n")


def test_head_gets_the_length_and_no_body() -> None:
    conversation = Conversation(CONFIG)
    asked(conversation, GET.replace(b"GET", b"HEAD"))
    assert conversation.reply(OK, "") == BEGIN + b"Content-Length: 1\r\n\r\n"
    assert conversation.reusable
    # Nobody knows that the next one is a HEAD, as it cannot be read.
    refused(conversation, b"HEAD / HTTP/1.1\r\n\r\n")
    assert conversation.reply(OK, "").endswith(b"Connection: close\r\n\r\nx")


@pytest.mark.parametrize(
    ("request_", "close", "kept"),
    [
        (GET, False, True),
        (GET, True, False),
        (GET.replace(b"1.1", b"1.0"), False, False),
        (GET.replace(b"1.1", b"1.0")[:-2] + b"Connection: keep-alive\r\n\r\n", False, False),
        (GET[:-2] + b"Connection: close\r\n\r\n", False, False),
        (GET[:-2] + b"Connection: keep-alive\r\nConnection: x, Close\r\n\r\n", False, False),
        (GET[:-2] + b"Connection: keep-alive\r\n\r\n", False, True),
    ],
)
def test_a_connection_is_kept_unless_either_side_wants_it_closed(request_: bytes, close: bool, kept: bool) -> None:
    conversation = Conversation(CONFIG)
    asked(conversation, request_)
    assert (b"Connection: close\r\n" not in conversation.reply(OK, "", close=close)) == kept
    assert (conversation.reusable, reads_no_more(conversation)) == (kept, not kept)


@pytest.mark.parametrize("body", [b"abc", b"1;x\r\na\r\n2\r\nbc\r\n0\r\nT: 1\r\n\r\n"], ids=["length", "chunks"])
@pytest.mark.parametrize("prepared", [False, True])
def test_nothing_of_a_request_is_left_once_its_reply_was_written(body: bytes, prepared: bool) -> None:
    """Wherever they were written: behind a proxy, the next request on a connection may be another client's."""
    head = POST if body == b"abc" else POST.replace(b"Content-Length: 3", b"Transfer-Encoding: chunked")
    conversation = Conversation(CONFIG)
    for _ in range(3):
        assert body_of(conversation, head) is None
        conversation.go_on()
        for at in range(len(body) - 1):
            assert conversation.feed(body[at : at + 1]) is None
        assert conversation.feed(body[-1:]) == b"abc"
        if prepared:
            conversation.replied()
        else:
            conversation.reply(OK, "")
        assert (conversation.reusable, conversation.begun, conversation.keeps) == (True, False, False)
    assert body_of(conversation, GET) == b""


@pytest.mark.parametrize("value", ["a\r\nEvil: b", "a\nb", "a\rb"])
def test_no_header_may_hold_a_line_end(value: str) -> None:
    conversation = Conversation(CONFIG)
    asked(conversation, GET)
    with pytest.raises(AssertionError, match="line end"):
        conversation.reply(Reply(200, headers=(("ETag", value),)), "")


def test_every_status_has_its_reason() -> None:
    for status, reason in ((200, b"OK"), (408, b"Request Timeout"), (431, b"Request Header Fields Too Large")):
        conversation = Conversation(CONFIG)
        asked(conversation, GET)
        assert conversation.reply(Reply(status), "").startswith(b"HTTP/1.1 %d %s\r\n" % (status, reason))
