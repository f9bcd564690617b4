"""The strict table: what a request is and what none is, by RFC 9110 and RFC 9112, whole and byte by byte."""

from __future__ import annotations

import pytest

from softstate.server.config import ServerConfig
from tests.server.http1.conversing import CONFIG, Seen, converse

LINE = b"GET / HTTP/1.1\r\n"
HOST = b"Host: a\r\n"
GET = LINE + HOST + b"\r\n"
GOT = ("GET", "/", b"")


def both(raw: bytes, config: ServerConfig = CONFIG) -> Seen:
    """Converse with the bytes whole, and one by one; the requests and the refusal must be the same."""
    whole = converse(raw, config=config)
    slow = converse(raw, 1, config)
    assert (whole.requests, whole.refused, whole.unfinished) == (slow.requests, slow.refused, slow.unfinished)
    return whole


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"POST /p HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


REFUSED: dict[str, tuple[bytes, int]] = {
    # The first line (RFC 9112 section 3)
    "no method": (b" / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no target": (b"GET HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "two spaces before the target": (b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "two spaces behind the target": (b"GET /  HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a tab for a space": (b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a blank behind the version": (b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", 400),
    "a blank within the target": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a comma in the method": (b"GE,T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/0.9 by name": (b"GET / HTTP/0.9\r\n" + HOST + b"\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 505),
    "HTTP/1.10": (b"GET / HTTP/1.10\r\n" + HOST + b"\r\n", 400),
    "HTTP/1": (b"GET / HTTP/1\r\n" + HOST + b"\r\n", 400),
    "HTTP/2": (b"GET / HTTP/2\r\n" + HOST + b"\r\n", 505),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "the preface as HTTP/1.1": (b"PRI * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "http/1.1": (b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
    "ICY": (b"SOURCE / ICE/1.0\r\n" + HOST + b"\r\n", 400),
    "RTSP": (b"OPTIONS / RTSP/1.0\r\n" + HOST + b"\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a WebSocket frame": (b"\x81\x85\x00\x00\x00\x00hello", 400),
    "no HTTP": (b"hello\r\n\r\n", 400),
    "NUL in the target": (b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a control in the target": (b"GET /\x7f HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a target that is not ASCII": ("GET /ü HTTP/1.1\r\n".encode() + HOST + b"\r\n", 400),
    "a fragment": (b"GET /#x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a quote in the target": (b'GET /"x" HTTP/1.1\r\n' + HOST + b"\r\n", 400),
    "angles in the target": (b"GET /<x> HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a target without a slash": (b"GET a HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "an asterisk but for OPTIONS": (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "another scheme": (b"GET ftp://a/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a scheme without a host": (b"GET http:///a HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "one slash behind the scheme": (b"GET http:/a HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "userinfo in the target": (b"GET http://u:p@a/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    # Lines (RFC 9112 section 2.2)
    "bare LF everywhere": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare LF behind the first line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    "bare LF behind a header": (LINE + b"Host: a\nX: 1\r\n\r\n", 400),
    "bare LF at the end": (LINE + HOST + b"\n", 400),
    "bare LF within a value": (LINE + HOST + b"X: a\nContent-Length: 5\r\n\r\n", 400),
    "bare CR everywhere": (b"GET / HTTP/1.1\rHost: a\r\r", 400),
    "bare CR within a value": (LINE + HOST + b"X: a\rb\r\n\r\n", 400),
    "CR CR LF": (LINE + HOST + b"X: a\r\r\n\r\n", 400),
    "bare LF ahead": (b"\n" + GET, 400),
    "bare CR ahead": (b"\r" + GET, 400),
    "a blank ahead": (b" " + GET, 400),
    # Header fields (RFC 9112 section 5)
    "a blank before the colon": (LINE + HOST + b"X : 1\r\n\r\n", 400),
    "a blank before the colon of a length": (LINE + HOST + b"Content-Length : 1\r\n\r\n", 400),
    "a tab before the colon": (LINE + HOST + b"X\t: 1\r\n\r\n", 400),
    "a blank within the name": (LINE + HOST + b"X Y: 1\r\n\r\n", 400),
    "no name": (LINE + HOST + b": 1\r\n\r\n", 400),
    "no colon": (LINE + HOST + b"X\r\n\r\n", 400),
    "a folded value": (LINE + HOST + b"X: 1\r\n 2\r\n\r\n", 400),
    "a folded value by a tab": (LINE + HOST + b"X: 1\r\n\t2\r\n\r\n", 400),
    "a folded value that was empty": (LINE + HOST + b"X:\r\n 2\r\n\r\n", 400),
    "a folded length": (LINE + HOST + b"Content-Length:\r\n 1\r\n\r\n", 400),
    "a folded coding": (LINE + HOST + b"Transfer-Encoding:\r\n chunked\r\n\r\n", 400),
    "a blank line that is none": (LINE + HOST + b" \r\n\r\n", 400),
    "a folded first line": (b"GET / HTTP/1.1\r\n X: 1\r\n" + HOST + b"\r\n", 400),
    "NUL in a value": (LINE + HOST + b"X: a\x00b\r\n\r\n", 400),
    "a control in a value": (LINE + HOST + b"X: a\x01b\r\n\r\n", 400),
    "DEL in a value": (LINE + HOST + b"X: a\x7fb\r\n\r\n", 400),
    "NUL in a name": (LINE + HOST + b"X\x00: a\r\n\r\n", 400),
    "a name that is not ASCII": (LINE + HOST + "Ü: a\r\n\r\n".encode(), 400),
    "a quote in a name": (LINE + HOST + b'"X": a\r\n\r\n', 400),
    # Host (RFC 9112 section 3.2)
    "a key twice, which joined would be another": (
        LINE + HOST + b"Idempotency-Key: k\r\nIdempotency-key: k\r\n\r\n",
        400,
    ),
    "no Host": (LINE + b"\r\n", 400),
    "Host twice": (LINE + HOST + HOST + b"\r\n", 400),
    "Host twice, in HTTP/1.0": (b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n", 400),
    "Host with a blank": (LINE + b"Host: a b\r\n\r\n", 400),
    "Host with a slash": (LINE + b"Host: a/b\r\n\r\n", 400),
    "Host with userinfo": (LINE + b"Host: a@b\r\n\r\n", 400),
    "Host with a comma": (LINE + b"Host: a,b\r\n\r\n", 400),
    "Host without a value": (LINE + b"Host:\r\n\r\n", 400),
    "Host of blanks": (LINE + b"Host: \t \r\n\r\n", 400),
    "Host of a port alone": (LINE + b"Host: :80\r\n\r\n", 400),
    "no Host, but in the target": (b"GET http://a/ HTTP/1.1\r\n\r\n", 400),
    # The length of the body (RFC 9112 section 6)
    "a length and a coding": (post(b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "a coding and a length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 3", body=b"0\r\n\r\n"), 400),
    "a coding and the length 0": (post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=b"0\r\n\r\n"), 400),
    "two lengths": (post(b"Content-Length: 1", b"Content-Length: 2", body=b"ab"), 400),
    "a length twice": (post(b"Content-Length: 1", b"Content-Length: 1", body=b"a"), 400),
    "a list of lengths": (post(b"Content-Length: 1, 1", body=b"a"), 400),
    "a list of two lengths": (post(b"Content-Length: 1, 2", body=b"ab"), 400),
    "a length with a sign": (post(b"Content-Length: +1", body=b"a"), 400),
    "a negative length": (post(b"Content-Length: -1", body=b"a"), 400),
    "a length in hex": (post(b"Content-Length: 0x1", body=b"a"), 400),
    "a length with a blank": (post(b"Content-Length: 1 1", body=b"a" * 11), 400),
    "a length with an underscore": (post(b"Content-Length: 1_0", body=b"a" * 10), 400),
    "a length with a point": (post(b"Content-Length: 1.0", body=b"a"), 400),
    "a length in other digits": (post("Content-Length: ٣".encode(), body=b"abc"), 400),
    "a length in superscript": (post(b"Content-Length: \xb2", body=b"ab"), 400),
    "an empty length": (post(b"Content-Length:"), 400),
    "an endless length": (post(b"Content-Length: 99999999999999999999999"), 400),
    "a length of 2^64": (post(b"Content-Length: 18446744073709551616"), 400),
    "a length of 2^64 - 1": (post(b"Content-Length: 18446744073709551615"), 400),
    "a length of 2^63": (post(b"Content-Length: 9223372036854775808"), 400),
    "a length over the limit": (post(b"Content-Length: 501"), 413),
    "another coding": (post(b"Transfer-Encoding: gzip"), 501),
    "another coding, then chunked": (post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    "chunked, then another coding": (post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"), 400),
    "chunked twice": (post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), 400),
    "two codings in two headers": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "identity": (post(b"Transfer-Encoding: identity"), 501),
    "chunked, then identity": (post(b"Transfer-Encoding: chunked, identity"), 400),
    "xchunked": (post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 501),
    "chunked with a parameter": (post(b"Transfer-Encoding: chunked;x=1", body=b"0\r\n\r\n"), 501),
    "chunked in quotes": (post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"), 501),
    "chunked behind a vertical tab": (post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), 400),
    "an empty coding": (post(b"Transfer-Encoding:"), 400),
    "an empty coding, then chunked": (post(b"Transfer-Encoding: , chunked", body=b"0\r\n\r\n"), 400),
    "chunked in HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    # Chunks (RFC 9112 section 7.1)
    "a chunk without a size": (chunked(b"\r\n\r\n"), 400),
    "a size that is no hex": (chunked(b"g\r\n"), 400),
    "a size with a sign": (chunked(b"+1\r\na\r\n0\r\n\r\n"), 400),
    "a negative size": (chunked(b"-1\r\na\r\n0\r\n\r\n"), 400),
    "a size with 0x": (chunked(b"0x1\r\na\r\n0\r\n\r\n"), 400),
    "a size with an underscore": (chunked(b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n"), 400),
    "a size of 17 digits": (chunked(b"00000000000000001\r\na\r\n0\r\n\r\n"), 400),
    "a size over the limit": (chunked(b"1f5\r\n"), 413),
    "sizes over the limit together": (chunked(b"1f4\r\n" + b"a" * 500 + b"\r\n1\r\n"), 413),
    "a blank before a size": (chunked(b" 1\r\na\r\n0\r\n\r\n"), 400),
    "a blank behind a size": (chunked(b"1 \r\na\r\n0\r\n\r\n"), 400),
    "bare LF behind a size": (chunked(b"1\na\r\n0\r\n\r\n"), 400),
    "bare CR behind a size": (chunked(b"1\ra\r\n0\r\n\r\n"), 400),
    "bare LF behind a chunk": (chunked(b"1\r\na\n0\r\n\r\n"), 400),
    "no end of a chunk": (chunked(b"1\r\na0\r\n\r\n"), 400),
    "a chunk that is too long": (chunked(b"1\r\nab\r\n0\r\n\r\n"), 400),
    "an extension without a name": (chunked(b"1;\r\na\r\n0\r\n\r\n"), 400),
    "an extension with a control": (chunked(b"1;a=\x00\r\na\r\n0\r\n\r\n"), 400),
    "an extension with bare LF": (chunked(b"1;a=b\na\r\n0\r\n\r\n"), 400),
    "an extension with a quote left open": (chunked(b'1;a="b\r\na\r\n0\r\n\r\n'), 400),
    "an extension that is too long": (chunked(b"1;a=" + b"b" * 300 + b"\r\na\r\n0\r\n\r\n"), 400),
    "a trailer without a colon": (chunked(b"0\r\nX\r\n\r\n"), 400),
    "a trailer with a blank before the colon": (chunked(b"0\r\nX : 1\r\n\r\n"), 400),
    "a folded trailer": (chunked(b"0\r\nX: 1\r\n 2\r\n\r\n"), 400),
    "a trailer with bare LF": (chunked(b"0\r\nX: 1\nY: 2\r\n\r\n"), 400),
    "trailers that are too long": (chunked(b"0\r\n" + b"X: 1\r\n" * 200 + b"\r\n"), 431),
    "bare LF at the end of the trailers": (chunked(b"0\r\n\n" + GET), 400),
}


@pytest.mark.parametrize(("raw", "status"), REFUSED.values(), ids=REFUSED)
def test_refused(raw: bytes, status: int) -> None:
    seen = both(raw + GET)
    assert (seen.requests, seen.refused) == ([], status), seen.why
    assert len(seen.why) < 250
    assert seen.why.isprintable()


TAKEN: dict[str, tuple[bytes, list[tuple[str, str, bytes]]]] = {
    "the least": (GET, [GOT]),
    "an empty line ahead": (b"\r\n" + GET, [GOT]),
    "empty lines ahead": (b"\r\n\r\n\r\n" + GET, [GOT]),
    "an empty line behind a body": (post(b"Content-Length: 1", body=b"a\r\n") + GET, [("POST", "/p", b"a"), GOT]),
    "a pipeline": (GET * 3, [GOT] * 3),
    "other methods": (GET.replace(b"GET", b"BREW"), [("BREW", "/", b"")]),
    "methods are case-sensitive": (GET.replace(b"GET", b"get"), [("get", "/", b"")]),
    "odd methods": (GET.replace(b"GET", b"!#$%&'*+.^_`|~9"), [("!#$%&'*+.^_`|~9", "/", b"")]),
    "an unknown method with a body": (
        post(b"Content-Length: 1", body=b"a").replace(b"POST", b"BREW"),
        [("BREW", "/p", b"a")],
    ),
    "a method of llhttp's own": (GET.replace(b"GET", b"SOURCE"), [("SOURCE", "/", b"")]),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n" + GET, [("CONNECT", "a:1", b""), GOT]),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", [("OPTIONS", "*", b"")]),
    "a query": (b"GET /a/b?c=d?e&f=%20 HTTP/1.1\r\n" + HOST + b"\r\n", [("GET", "/a/b?c=d?e&f=%20", b"")]),
    "two slashes": (b"GET //a HTTP/1.1\r\n" + HOST + b"\r\n", [("GET", "//a", b"")]),
    "what browsers send unescaped": (
        b"GET /[a]?{b}|c^d`e\\ HTTP/1.1\r\n" + HOST + b"\r\n",
        [("GET", "/[a]?{b}|c^d`e\\", b"")],
    ),
    "a target in absolute form": (b"GET http://b:1/c?d HTTP/1.1\r\n" + HOST + b"\r\n", [("GET", "//b:1/c?d", b"")]),
    "an absolute target without a path": (b"GET HTTPS://b HTTP/1.1\r\n" + HOST + b"\r\n", [("GET", "//b/", b"")]),
    "an absolute target with a query alone": (
        b"GET http://b?c HTTP/1.1\r\n" + HOST + b"\r\n",
        [("GET", "//b/?c", b"")],
    ),
    "blanks around a value": (LINE + b"Host: \t a\t \r\n\r\n", [GOT]),
    "no blanks around a value": (LINE + b"Host:a\r\nX:\r\nY:  \r\n\r\n", [GOT]),
    "a value that is not ASCII": (LINE + HOST + b"X: \xff\xfe\r\n\r\n", [GOT]),
    "an odd name": (LINE + HOST + b"!#$%&'*+-.^_`|~9: 1\r\n\r\n", [GOT]),
    "HTTP/1.0 without Host": (b"GET / HTTP/1.0\r\n\r\n", [GOT]),
    "nothing behind HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n" + GET, [GOT]),
    "nothing behind close": (LINE + HOST + b"Connection: close\r\n\r\n" + GET, [GOT]),
    "nothing behind close, in a list": (LINE + HOST + b"Connection: x,\tCLOSE \r\n\r\n" + GET, [GOT]),
    "close within a word": (LINE + HOST + b"Connection: closed, keep-alive\r\n\r\n" + GET, [GOT, GOT]),
    "IPv6": (LINE + b"Host: [::1]:80\r\n\r\n", [GOT]),
    "a port without digits": (LINE + b"Host: a:\r\n\r\n", [GOT]),
    "a body": (post(b"Content-Length: 3", body=b"abc") + GET, [("POST", "/p", b"abc"), GOT]),
    "a body of a GET": (LINE + HOST + b"Content-Length: 3\r\n\r\nabc" + GET, [("GET", "/", b"abc"), GOT]),
    "a length with leading zeros": (post(b"Content-Length: 0003", body=b"abc") + GET, [("POST", "/p", b"abc"), GOT]),
    "the length 0": (post(b"Content-Length: 0") + GET, [("POST", "/p", b""), GOT]),
    "no length": (post() + GET, [("POST", "/p", b""), GOT]),
    "the longest body": (post(b"Content-Length: 500", body=b"a" * 500) + GET, [("POST", "/p", b"a" * 500), GOT]),
    "a body that looks like a request": (post(b"Content-Length: %d" % len(GET), body=GET), [("POST", "/p", GET)]),
    "no chunks": (chunked(b"0\r\n\r\n") + GET, [("POST", "/p", b""), GOT]),
    "chunks": (chunked(b"3\r\nabc\r\n00A\r\n0123456789\r\n000\r\n\r\n") + GET, [("POST", "/p", b"abc0123456789"), GOT]),
    "chunks of line ends": (
        chunked(b"4\r\n\r\n\r\n\r\n2\r\n0\r\r\n0\r\n\r\n") + GET,
        [("POST", "/p", b"\r\n\r\n0\r"), GOT],
    ),
    "the longest body in chunks": (
        chunked(b"1f4\r\n" + b"a" * 500 + b"\r\n0\r\n\r\n") + GET,
        [("POST", "/p", b"a" * 500), GOT],
    ),
    "extensions": (
        chunked(b'1;a\r\nx\r\n1 ;\ta = "b;\\"c"; d=e\r\ny\r\n0;z\r\n\r\n') + GET,
        [("POST", "/p", b"xy"), GOT],
    ),
    "trailers": (
        chunked(b"1\r\nx\r\n0\r\nX: 1\r\nHost: b\r\nContent-Length: 5\r\n\r\n") + GET,
        [("POST", "/p", b"x"), GOT],
    ),
    "CHUNKED": (post(b"Transfer-Encoding: \tCHUNKED ", body=b"0\r\n\r\n") + GET, [("POST", "/p", b""), GOT]),
    "an upgrade that nobody wants": (LINE + HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n" + GET, [GOT, GOT]),
    "an upgrade with a body": (
        post(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 3", body=b"abc") + GET,
        [("POST", "/p", b"abc"), GOT],
    ),
    "an upgrade with chunks": (
        post(b"Connection: upgrade", b"Upgrade: websocket", b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n\r\n")
        + GET,
        [("POST", "/p", b"x"), GOT],
    ),
}


@pytest.mark.parametrize(("raw", "requests"), TAKEN.values(), ids=TAKEN)
def test_taken(raw: bytes, requests: list[tuple[str, str, bytes]]) -> None:
    seen = both(raw)
    assert (seen.requests, seen.refused, seen.unfinished) == (requests, None, False), seen.why


def test_a_trailer_is_no_header() -> None:
    [headers] = both(chunked(b"0\r\nHost: evil\r\nX: 1\r\n\r\n")).headers
    assert headers == {b"host": b"a", b"transfer-encoding": b"chunked"}


def test_repeated_headers_are_joined_in_order() -> None:
    [headers] = both(LINE + HOST + b"X: 1 \r\nY:\r\nx:  2\r\nX: \r\n\r\n").headers
    assert headers == {b"host": b"a", b"x": b"1, 2, ", b"y": b""}


def test_nothing_is_read_behind_a_refusal() -> None:
    seen = both(GET + LINE + HOST + b"X : 1\r\n\r\n" + GET)
    assert (seen.requests, seen.refused) == ([GOT], 400)
