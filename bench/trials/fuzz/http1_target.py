"""Target: the server's side of HTTP/1.1, held to h11, which shares no code with it.

Requests that ours takes, h11 takes too, and with the same meaning. Ours refuses more: only for the reasons in
`STRICTER`, since anything else would be a request that the RFCs allow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

import h11

from bench.trials.fuzz.mutation import damage
from bench.trials.fuzz.target import Broken, Target, check_length
from softstate.server.config import ServerConfig
from softstate.server.http1 import Conversation, Refused, Reply, RequestHead

CONFIG = ServerConfig(headers_max=1_000)

STRICTER = (
    "each line ends in CR and LF",
    "a header may not go on in a second line",
    "without controls",
    "the first line must be",  # characters of the target
    "the request's target must",
    "the target of CONNECT must",
    "this server speaks HTTP/1.1",  # 1.2 to 1.9, 0.9
    "Host must name a host",
    "Content-Length must be given once",
    "Duplicate Content-Length",
    "Invalid character in Content-Length",  # a list of equal ones, digits of 20 places
    "Content-Length overflow",
    "a Content-Length or a Transfer-Encoding, not both",
    "Transfer-Encoding can't be present with",
    "Content-Length can't be present with",
    "HTTP/1.0 has no Transfer-Encoding",
    "Request has invalid `Transfer-Encoding`",  # a tab behind its value, which llhttp does not take
    "Expected HTTP/2 Connection Preface",  # PRI, which no request may use (RFC 9113 section 11.4)
    "Invalid char",  # of a target, as llhttp sees it
    "Unexpected char in url",
    "a chunk begins with its size",  # extensions, and blanks behind the size
    "a trailer is malformed",
    "is longer than the limit",
)
"""The reasons for which ours may refuse what h11 takes, by a part of their sentences."""

_BLANK_BEFORE_EXTENSION = re.compile(rb"[\t ];")


@dataclass(frozen=True, slots=True)
class Asked:
    """One whole request: all that decides what it means."""

    method: str
    target: str
    minor: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    close: bool


class Http1Target(Target):
    """Requests, pipelined, of heads and bodies that two readers could take differently."""

    name = "http1"

    def make(self, random: Random) -> bytes:
        """Write one to three requests, and damage them mostly."""
        data = b"".join(_request(random) for _ in range(random.choice([1, 1, 2, 3])))
        return damage(data, random, [_request(random), *ODD]) if random.random() < 0.75 else data

    async def check(self, data: bytes) -> str:
        """Read the bytes whole, in pieces, and by h11."""
        ours, refused = read_by_ours(data, 1 << 20)
        pieces, refused_in_pieces = read_by_ours(data, 1 + len(data) % 7)
        if ours != pieces or (refused is None) != (refused_in_pieces is None):
            raise Broken(f"{ours}, {refused} whole, but {pieces}, {refused_in_pieces} in pieces")
        theirs = read_by_h11(data)
        if ours != theirs[: len(ours)] and not _BLANK_BEFORE_EXTENSION.search(data):
            raise Broken(f"h11 understands {theirs}, we understand {ours}")
        if refused is None:
            return "taken"
        check_length(refused)
        if len(theirs) > len(ours) and not any(reason in refused for reason in STRICTER):
            raise Broken(f"h11 takes what we refuse: {refused}")
        return "refused"


def read_by_ours(data: bytes, chunk: int) -> tuple[list[Asked], str | None]:
    """Return the requests that are whole, and why the next is refused, if it is."""
    conversation = Conversation(CONFIG)
    found: list[Asked] = []
    head: RequestHead | None = None
    for at in range(0, len(data), chunk):
        event = conversation.feed(data[at : at + chunk])
        while event is not None:
            if isinstance(event, Refused):
                return found, event.error.message
            if isinstance(event, RequestHead):
                head = event
            assert head is not None
            body = event if isinstance(event, bytes) else conversation.body
            if body is not None:
                found.append(_asked(head, body))
                conversation.reply(Reply(200), "")
            else:
                try:
                    conversation.go_on()
                except Refused as refused:
                    return found, refused.error.message
            event = conversation.feed()
    return found, None


def _asked(head: RequestHead, body: bytes) -> Asked:
    path = head.path + (f"?{head.query}" if head.query else "")
    target = path if head.authority is None else f"//{head.authority}{path}"
    # h11 hands out the coding in lower case.
    headers = tuple(sorted((k, v.lower() if k == b"transfer-encoding" else v) for k, v in head.headers.items()))
    return Asked(head.method, target, head.minor, headers, body, head.close)


def read_by_h11(data: bytes) -> list[Asked]:
    """Return the requests that h11 finds whole, each with a new connection of its own."""
    found: list[Asked] = []
    while data:
        while data.startswith(b"\r\n"):  # h11 knows no empty lines ahead of a request
            data = data[2:]
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=CONFIG.head_bytes_max)
        reader.receive_data(data)
        body = b""
        head: h11.Request | None = None
        try:
            while not isinstance(event := reader.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    return found
        except h11.RemoteProtocolError:
            return found
        assert head is not None
        reader.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
        reader.send(h11.EndOfMessage())
        close = reader.their_state is not h11.DONE
        found.append(_asked_of_h11(head, body, close=close))
        if close:
            return found
        data = reader.trailing_data[0]
    return found


def _asked_of_h11(head: h11.Request, body: bytes, *, close: bool) -> Asked:
    headers: dict[bytes, bytes] = {}
    for name, value in head.headers:
        headers[name] = headers[name] + b", " + value if name in headers else value
    target = head.target.decode("latin-1")
    absolute = re.match(r"(?i)https?:(//[^/?]*)(.*)", target)
    if absolute is not None:
        rest = absolute[2] or "/"
        target = absolute[1] + (f"/{rest}" if rest.startswith("?") else rest)
    target = target.removesuffix("?") if target.count("?") == 1 else target
    version = int(head.http_version.rpartition(b".")[2])
    return Asked(head.method.decode(), target, version, tuple(sorted(headers.items())), body, close)


METHODS = (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"BREW", b"get", b"PRI", b"M-SEARCH")
TARGETS = (b"/", b"/a/b?c=d", b"*", b"a:1", b"http://a/b", b"http://a?b", b"https://a@b/", b"/[a]|b", b"/\xff", b"//a")
LINES = (
    b"Host: a", b"Host: a:80", b"Host: b, c", b"Host:", b"Content-Length: 3", b"Content-Length: 03",
    b"Content-Length: +3", b"Content-Length: 3, 3", b"Content-Length: 0", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: Chunked ", b"Connection: close",
    b"Connection: upgrade", b"Upgrade: websocket", b"X:", b"X: \xff", b"X : 1", b" X: 1", b"X: 1\r\n 2",
    b"Expect: 100-continue", b"Connection: keep-alive, close", b"TE: trailers",
)  # fmt: skip
BODIES = (
    b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"1;a=b\r\na\r\n0\r\nX: 1\r\n\r\n", b"0\r\n\r\n", b"03\r\nabc\r\n00\r\n\r\n",
    b"3\nabc\n0\n\n", b"3 \r\nabc\r\n0\r\n\r\n", b'1;a="b;c"\r\na\r\n0\r\n\r\n', b"1\r\nab\r\n0\r\n\r\n", b"\r\n",
    b"-1\r\n",
)  # fmt: skip
ODD = (b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b",", b"\r\n\r\n", b"\xff", b"0\r\n\r\n", *LINES)


def _request(random: Random) -> bytes:
    version = random.choice([b"1.1"] * 8 + [b"1.0", b"1.2", b"2.0"])
    first = random.choice(METHODS) + b" " + random.choice(TARGETS) + b" HTTP/" + version
    lines = random.sample(LINES, random.choice([0, 0, 1, 1, 2, 3]))
    if random.random() < 0.9:
        lines.insert(random.randrange(len(lines) + 1), b"Host: a")
    body = random.choice(BODIES)
    if random.random() < 0.4:
        lines, body = [*lines, b"Content-Length: 3"], b"abc"
    elif random.random() < 0.4:
        lines, body = [*lines, b"Transfer-Encoding: chunked"], random.choice(BODIES[2:])
    return b"\r\n".join([first, *lines, b"", body])
