"""The cases of the Autobahn test suite for servers, sections 1 to 7 and 10, as data.

They were recorded from the case classes of autobahntestsuite 0.8.2 (crossbario/autobahn-testsuite, Apache-2.0): each
ran with a protocol that notes what the case sends, and what it expects of a server that echoes messages. Section 9 is
about speed, and sections 12 and 13 about compression, which no node speaks.

The suite itself (fuzzingclient, on Python 2.7), run over sockets against an echo on a node's channel: 244 OK, and
7.1.6, 7.13.1 and 7.13.2 informational, as they are for every server.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from softstate.wire.websocket import Pong
from softstate.wire.websocket.events import NO_CODE
from tests.wire.websocket import client_frames
from tests.wire.websocket.client_frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client_frame

Chunks: TypeAlias = list[bytes]
Reply: TypeAlias = bytes | str | Pong


class Closing(NamedTuple):
    """The end of a case."""

    codes: tuple[int, ...]
    """The codes of which one is that of the server's close frame."""
    fails_after: int | None = None
    """The number of pauses after which the server closes, without waiting for more; None if the client closes first."""


class Case(NamedTuple):
    """The bytes of a client, and the answers of a server that sends each message back."""

    parts: list[Chunks]
    """Chunks, in parts with a pause between them."""
    replies: list[Reply]
    closing: Closing


WAIT: Chunks = []
BY_THE_CLIENT = Closing((1000,))


def case(sent: list[Chunks], replies: list[Reply], closing: Closing = BY_THE_CLIENT) -> Case:
    parts: list[Chunks] = [[]]
    for chunks in sent:
        if chunks is WAIT:
            parts.append([])
        parts[-1] += chunks
    return Case(parts, replies, closing)


def fails(code: int, after: int = 0) -> Closing:
    return Closing((code,), after)


def closes(*codes: int) -> Closing:
    return Closing(codes)


def chunks_of(opcode: int, payload: bytes, fin: bool = True, rsv: int = 0, cut: int = 0) -> Chunks:
    data = client_frame(opcode, payload, fin=fin, rsv=rsv)
    return client_frames.cut(data, cut or len(data))


def text(payload: bytes = b"", *, fin: bool = True, rsv: int = 0, cut: int = 0, fragments: int = 0) -> Chunks:
    if not fragments:
        return chunks_of(TEXT, payload, fin, rsv, cut)
    starts = range(0, len(payload), fragments)
    parts = [payload[at : at + fragments] for at in starts]
    last = len(parts) - 1
    return [client_frame(CONTINUATION if n else TEXT, part, fin=n == last) for n, part in enumerate(parts)]


def split(*payloads: bytes) -> list[Chunks]:
    """Send one text frame, with a pause between its parts."""
    head = client_frame(TEXT, b"".join(payloads))
    sent: list[Chunks] = []
    for payload in reversed(payloads):
        sent = [[head[len(head) - len(payload) :]], WAIT, *sent]
        head = head[: len(head) - len(payload)]
    sent[0][0] = head + sent[0][0]
    return sent[:-1]


def binary(payload: bytes = b"", *, rsv: int = 0, cut: int = 0) -> Chunks:
    return chunks_of(BINARY, payload, rsv=rsv, cut=cut)


def more(payload: bytes = b"", *, fin: bool = True, cut: int = 0) -> Chunks:
    return chunks_of(CONTINUATION, payload, fin, cut=cut)


def ping(payload: bytes = b"", *, fin: bool = True, cut: int = 0) -> Chunks:
    return chunks_of(PING, payload, fin, cut=cut)


def pong(payload: bytes = b"", *, fin: bool = True) -> Chunks:
    return chunks_of(PONG, payload, fin)


def close(payload: bytes = b"", *, rsv: int = 0) -> Chunks:
    return chunks_of(CLOSE, payload, rsv=rsv)


def reserved(opcode: int, payload: bytes = b"", *, cut: int = 0) -> Chunks:
    return chunks_of(opcode, payload, cut=cut)


FRAMES: dict[str, Case] = {
    "1.1.1": case([text()], [""]),
    "1.1.2": case([text(b"*" * 125)], ["*" * 125]),
    "1.1.3": case([text(b"*" * 126)], ["*" * 126]),
    "1.1.4": case([text(b"*" * 127)], ["*" * 127]),
    "1.1.5": case([text(b"*" * 128)], ["*" * 128]),
    "1.1.6": case([text(b"*" * 65_535)], ["*" * 65_535]),
    "1.1.7": case([text(b"*" * 65_536)], ["*" * 65_536]),
    "1.1.8": case([text(b"*" * 65_536, cut=997)], ["*" * 65_536]),
    "1.2.1": case([binary()], [b""]),
    "1.2.2": case([binary(b"\xfe" * 125)], [b"\xfe" * 125]),
    "1.2.3": case([binary(b"\xfe" * 126)], [b"\xfe" * 126]),
    "1.2.4": case([binary(b"\xfe" * 127)], [b"\xfe" * 127]),
    "1.2.5": case([binary(b"\xfe" * 128)], [b"\xfe" * 128]),
    "1.2.6": case([binary(b"\xfe" * 65_535)], [b"\xfe" * 65_535]),
    "1.2.7": case([binary(b"\xfe" * 65_536)], [b"\xfe" * 65_536]),
    "1.2.8": case([binary(b"\xfe" * 65_536, cut=997)], [b"\xfe" * 65_536]),
    "2.1": case([ping()], [Pong(b"")]),
    "2.2": case([ping(b"Hello, world!")], [Pong(b"Hello, world!")]),
    "2.3": case([ping(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")], [Pong(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff")]),
    "2.4": case([ping(b"\xfe" * 125)], [Pong(b"\xfe" * 125)]),
    "2.5": case([ping(b"\xfe" * 126)], [], fails(1002)),
    "2.6": case([ping(b"\xfe" * 125, cut=1)], [Pong(b"\xfe" * 125)]),
    "2.7": case([pong(), close(b"\x03\xe8")], []),
    "2.8": case([pong(b"unsolicited pong payload"), close(b"\x03\xe8")], []),
    "2.9": case([pong(b"unsolicited pong payload"), ping(b"ping payload")], [Pong(b"ping payload")]),
    "2.10": case([ping(b"payload-%d" % n) for n in range(10)], [Pong(b"payload-%d" % n) for n in range(10)]),
    "2.11": case([ping(b"payload-%d" % n, cut=1) for n in range(10)], [Pong(b"payload-%d" % n) for n in range(10)]),
    "3.1": case([text(b"Hello, world!", rsv=1)], [], fails(1002)),
    "3.2": case([text(b"Hello, world!"), text(b"Hello, world!", rsv=2), ping()], ["Hello, world!"], fails(1002)),
    "3.3": case(
        [text(b"Hello, world!", cut=1), text(b"Hello, world!", rsv=3, cut=1), ping(cut=1)],
        ["Hello, world!"],
        fails(1002),
    ),
    "3.4": case(
        [text(b"Hello, world!", cut=1), text(b"Hello, world!", rsv=4, cut=1), ping(cut=1)],
        ["Hello, world!"],
        fails(1002),
    ),
    "3.5": case([binary(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", rsv=5)], [], fails(1002)),
    "3.6": case([binary(b"Hello, world!", rsv=6)], [], fails(1002)),
    "3.7": case([close(rsv=7)], [], fails(1002)),
    "4.1.1": case([reserved(3)], [], fails(1002)),
    "4.1.2": case([reserved(4, b"reserved opcode payload")], [], fails(1002)),
    "4.1.3": case([text(b"Hello, world!"), reserved(5), ping()], ["Hello, world!"], fails(1002)),
    "4.1.4": case([text(b"Hello, world!"), reserved(6, b"Hello, world!"), ping()], ["Hello, world!"], fails(1002)),
    "4.1.5": case(
        [text(b"Hello, world!", cut=1), reserved(7, b"Hello, world!", cut=1), ping(cut=1)],
        ["Hello, world!"],
        fails(1002),
    ),
    "4.2.1": case([reserved(11)], [], fails(1002)),
    "4.2.2": case([reserved(12, b"reserved opcode payload")], [], fails(1002)),
    "4.2.3": case([text(b"Hello, world!"), reserved(13), ping()], ["Hello, world!"], fails(1002)),
    "4.2.4": case([text(b"Hello, world!"), reserved(14, b"Hello, world!"), ping()], ["Hello, world!"], fails(1002)),
    "4.2.5": case(
        [text(b"Hello, world!", cut=1), reserved(15, b"Hello, world!", cut=1), ping(cut=1)],
        ["Hello, world!"],
        fails(1002),
    ),
    "5.1": case([ping(b"fragment1", fin=False), more(b"fragment2")], [], fails(1002)),
    "5.2": case([pong(b"fragment1", fin=False), more(b"fragment2")], [], fails(1002)),
    "5.3": case([text(b"fragment1", fin=False), more(b"fragment2")], ["fragment1fragment2"]),
    "5.4": case([text(b"fragment1", fin=False, cut=1), more(b"fragment2", cut=1)], ["fragment1fragment2"]),
    "5.5": case([text(b"fragment1", fin=False, cut=1), more(b"fragment2", cut=1)], ["fragment1fragment2"]),
    "5.6": case(
        [text(b"fragment1", fin=False), ping(b"ping payload"), more(b"fragment2")],
        [Pong(b"ping payload"), "fragment1fragment2"],
    ),
    "5.7": case(
        [text(b"fragment1", fin=False, cut=1), ping(b"ping payload", cut=1), more(b"fragment2", cut=1)],
        [Pong(b"ping payload"), "fragment1fragment2"],
    ),
    "5.8": case(
        [text(b"fragment1", fin=False, cut=1), ping(b"ping payload", cut=1), more(b"fragment2", cut=1)],
        [Pong(b"ping payload"), "fragment1fragment2"],
    ),
    "5.9": case([more(b"non-continuation payload"), text(b"Hello, world!")], [], fails(1002)),
    "5.10": case([more(b"non-continuation payload", cut=1), text(b"Hello, world!", cut=1)], [], fails(1002)),
    "5.11": case([more(b"non-continuation payload", cut=1), text(b"Hello, world!", cut=1)], [], fails(1002)),
    "5.12": case([more(b"non-continuation payload", fin=False), text(b"Hello, world!")], [], fails(1002)),
    "5.13": case([more(b"non-continuation payload", fin=False, cut=1), text(b"Hello, world!", cut=1)], [], fails(1002)),
    "5.14": case([more(b"non-continuation payload", fin=False, cut=1), text(b"Hello, world!", cut=1)], [], fails(1002)),
    "5.15": case(
        [text(b"fragment1", fin=False), more(b"fragment2"), more(b"fragment3", fin=False), text(b"fragment4")],
        ["fragment1fragment2"],
        fails(1002),
    ),
    "5.16": case(
        [
            more(b"fragment1", fin=False),
            text(b"fragment2", fin=False),
            more(b"fragment3"),
            more(b"fragment1", fin=False),
            text(b"fragment2", fin=False),
            more(b"fragment3"),
        ],
        [],
        fails(1002),
    ),
    "5.17": case(
        [
            more(b"fragment1"),
            text(b"fragment2", fin=False),
            more(b"fragment3"),
            more(b"fragment1"),
            text(b"fragment2", fin=False),
            more(b"fragment3"),
        ],
        [],
        fails(1002),
    ),
    "5.18": case([text(b"fragment1", fin=False), text(b"fragment2")], [], fails(1002)),
    "5.19": case(
        [
            text(b"fragment1", fin=False),
            more(b"fragment2", fin=False),
            ping(b"pongme 1!"),
            WAIT,
            more(b"fragment3", fin=False),
            more(b"fragment4", fin=False),
            ping(b"pongme 2!"),
            more(b"fragment5"),
        ],
        [Pong(b"pongme 1!"), Pong(b"pongme 2!"), "fragment1fragment2fragment3fragment4fragment5"],
    ),
    "5.20": case(
        [
            text(b"fragment1", fin=False, cut=1),
            more(b"fragment2", fin=False, cut=1),
            ping(b"pongme 1!", cut=1),
            WAIT,
            more(b"fragment3", fin=False, cut=1),
            more(b"fragment4", fin=False, cut=1),
            ping(b"pongme 2!", cut=1),
            more(b"fragment5", cut=1),
        ],
        [Pong(b"pongme 1!"), Pong(b"pongme 2!"), "fragment1fragment2fragment3fragment4fragment5"],
    ),
    "6.1.1": case([text()], [""]),
    "6.1.2": case([text(fin=False), more(fin=False), more()], [""]),
    "6.1.3": case([text(fin=False), more(b"middle frame payload", fin=False), more()], ["middle frame payload"]),
    "6.2.1": case(
        [text(bytes.fromhex("48656c6c6f2dc2b540c39fc3b6c3a4c3bcc3a0c3a12d5554462d382121"))],
        ["Hello-\xb5@\xdf\xf6\xe4\xfc\xe0\xe1-UTF-8!!"],
    ),
    "6.2.2": case(
        [text(b"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4", fin=False), more(b"\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!")],
        ["Hello-\xb5@\xdf\xf6\xe4\xfc\xe0\xe1-UTF-8!!"],
    ),
    "6.2.3": case(
        [text(bytes.fromhex("48656c6c6f2dc2b540c39fc3b6c3a4c3bcc3a0c3a12d5554462d382121"), fragments=1)],
        ["Hello-\xb5@\xdf\xf6\xe4\xfc\xe0\xe1-UTF-8!!"],
    ),
    "6.2.4": case(
        [text(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", fragments=1)], ["\u03ba\u1f79\u03c3\u03bc\u03b5"]
    ),
    "6.3.1": case([text(bytes.fromhex("cebae1bdb9cf83cebcceb5eda080656469746564"))], [], fails(1007)),
    "6.3.2": case([text(bytes.fromhex("cebae1bdb9cf83cebcceb5eda080656469746564"), fragments=1)], [], fails(1007)),
    "6.4.1": case(
        [
            text(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", fin=False),
            WAIT,
            more(b"\xf4\x90\x80\x80", fin=False),
            WAIT,
            more(b"edited"),
        ],
        [],
        fails(1007, after=1),
    ),
    "6.4.2": case(
        [
            text(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4", fin=False),
            WAIT,
            more(b"\x90", fin=False),
            WAIT,
            more(b"\x80\x80edited"),
        ],
        [],
        fails(1007, after=1),
    ),
    "6.4.3": case(
        split(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", b"\xf4\x90\x80\x80", b"edited"), [], fails(1007, after=1)
    ),
    "6.4.4": case(
        split(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4", b"\x90", b"\x80\x80edited"), [], fails(1007, after=1)
    ),
    "7.1.1": case([text(b"Hello World!")], ["Hello World!"]),
    "7.1.2": case([close(b"\x03\xe8"), close()], []),
    "7.1.3": case([close(b"\x03\xe8"), ping()], []),
    "7.1.4": case([close(b"\x03\xe8"), text(b"Hello World!")], []),
    "7.1.5": case([text(b"fragment1", fin=False), close(b"\x03\xe8"), more(b"fragment2")], []),
    "7.1.6": case(
        [text((b"BAsd7&jh23" * 26_215)[:262_144]), text(b"Hello World!"), close(b"\x03\xe8"), ping()],
        [("BAsd7&jh23" * 26_215)[:262_144], "Hello World!"],
    ),
    "7.3.1": case([close()], [], closes(1000, NO_CODE)),  # the suite takes an answer without a code, too
    "7.3.2": case([close(b"a")], [], closes(1002)),
    "7.3.3": case([close(b"\x03\xe8")], []),
    "7.3.4": case([close(b"\x03\xe8Hello World!")], []),
    "7.3.5": case([close(b"\x03\xe8" + b"*" * 123)], []),
    "7.3.6": case([close(b"\x03\xe8" + b"*" * 124)], [], closes(1002)),
    "7.5.1": case([close(bytes.fromhex("03e8cebae1bdb9cf83cebcceb5eda080656469746564"))], [], closes(1002, 1007)),
    "7.7.1": case([close(b"\x03\xe8")], []),
    "7.7.2": case([close(b"\x03\xe9")], [], closes(1000, 1001)),
    "7.7.3": case([close(b"\x03\xea")], [], closes(1000, 1002)),
    "7.7.4": case([close(b"\x03\xeb")], [], closes(1000, 1003)),
    "7.7.5": case([close(b"\x03\xef")], [], closes(1000, 1007)),
    "7.7.6": case([close(b"\x03\xf0")], [], closes(1000, 1008)),
    "7.7.7": case([close(b"\x03\xf1")], [], closes(1000, 1009)),
    "7.7.8": case([close(b"\x03\xf2")], [], closes(1000, 1010)),
    "7.7.9": case([close(b"\x03\xf3")], [], closes(1000, 1011)),
    "7.7.10": case([close(b"\x0b\xb8")], [], closes(1000, 3000)),
    "7.7.11": case([close(b"\x0f\x9f")], [], closes(1000, 3999)),
    "7.7.12": case([close(b"\x0f\xa0")], [], closes(1000, 4000)),
    "7.7.13": case([close(b"\x13\x87")], [], closes(1000, 4999)),
    "7.9.1": case([close(b"\x00\x00")], [], closes(1002)),
    "7.9.2": case([close(b"\x03\xe7")], [], closes(1002)),
    "7.9.3": case([close(b"\x03\xec")], [], closes(1002)),
    "7.9.4": case([close(b"\x03\xed")], [], closes(1002)),
    "7.9.5": case([close(b"\x03\xee")], [], closes(1002)),
    "7.9.6": case([close(b"\x03\xf8")], [], closes(1002)),
    "7.9.7": case([close(b"\x04L")], [], closes(1002)),
    "7.9.8": case([close(b"\x07\xd0")], [], closes(1002)),
    "7.9.9": case([close(b"\x0b\xb7")], [], closes(1002)),
    "7.13.1": case([close(b"\x13\x88")], [], closes(1000, 1002, 5000)),
    "7.13.2": case([close(b"\xff\xff")], [], closes(1000, 1002, 65535)),
    "10.1.1": case([text(b"*" * 65_536, fragments=1300)], ["*" * 65_536]),
}

TEXTS: dict[str, str] = {
    "6.5": (
        "68656c6c6f24776f726c64 68656c6c6fc2a2776f726c64 68656c6c6fe282ac776f726c64 "
        "68656c6c6ff0a4ada2776f726c64 cebae1bdb9cf83cebcceb5"
    ),
    "6.6": (
        "ce! ceba cebae1! cebae1bd! cebae1bdb9 cebae1bdb9cf! cebae1bdb9cf83 cebae1bdb9cf83ce! "
        "cebae1bdb9cf83cebc cebae1bdb9cf83cebcce! cebae1bdb9cf83cebcceb5"
    ),
    "6.7": "00 c280 e0a080 f0908080",
    "6.8": "f888808080! fc8480808080!",
    "6.9": "7f dfbf efbfbf f48fbfbf",
    "6.10": "f7bfbfbf! fbbfbfbfbf! fdbfbfbfbfbf!",
    "6.11": "ed9fbf ee8080 efbfbd f48fbfbf f4908080!",
    "6.12": (
        "80! bf! 80bf! 80bf80! 80bf80bf! 80bf80bf80! 80bf80bf80bf! "
        "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1"
        "b2b3b4b5b6b7b8b9babbbcbdbe!"
    ),
    "6.13": (
        "c020c120c220c320c420c520c620c720c820c920ca20cb20cc20cd20ce20cf20d020d120d220d320d420d520d620d720d820"
        "d920da20db20dc20dd20de20! e020e120e220e320e420e520e620e720e820e920ea20eb20ec20ed20ee20! "
        "f020f120f220f320f420f520f620! f820f920fa20! fc20!"
    ),
    "6.14": "c0! e080! f08080! f8808080! fc80808080! df! efbf! f7bfbf! fbbfbfbf! fdbfbfbfbf!",
    "6.15": "c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf!",
    "6.16": "fe! ff! fefeffff!",
    "6.17": "c0af! e080af! f08080af! f8808080af! fc80808080af!",
    "6.18": "c1bf! e09fbf! f08fbfbf! f887bfbfbf! fc83bfbfbfbf!",
    "6.19": "c080! e08080! f0808080! f880808080! fc8080808080!",
    "6.20": "eda080! edadbf! edae80! edafbf! edb080! edbe80! edbfbf!",
    "6.21": (
        "eda080edb080! eda080edbfbf! edadbfedb080! edadbfedbfbf! edae80edb080! edae80edbfbf! edafbfedb080! "
        "edafbfedbfbf!"
    ),
    "6.22": (
        "efbfbe efbfbf f09fbfbe f09fbfbf f0afbfbe f0afbfbf f0bfbfbe f0bfbfbf f18fbfbe f18fbfbf f19fbfbe "
        "f19fbfbf f1afbfbe f1afbfbf f1bfbfbe f1bfbfbf f28fbfbe f28fbfbf f29fbfbe f29fbfbf f2afbfbe f2afbfbf "
        "f2bfbfbe f2bfbfbf f38fbfbe f38fbfbf f39fbfbe f39fbfbf f3afbfbe f3afbfbf f3bfbfbe f3bfbfbf f48fbfbe "
        "f48fbfbf"
    ),
    "6.23": "efbfb9 efbfba efbfbb efbfbc efbfbd efbfbe efbfbf",
}
"""One text message for each case of a section, in hexadecimal; those with "!" are not UTF-8."""


def _of_text(message: str) -> Case:
    data = bytes.fromhex(message.rstrip("!"))
    return case([text(data)], [], fails(1007)) if message.endswith("!") else case([text(data)], [data.decode()])


CASES: dict[str, Case] = FRAMES | {
    f"{section}.{number}": _of_text(message)
    for section, messages in TEXTS.items()
    for number, message in enumerate(messages.split(), 1)
}
