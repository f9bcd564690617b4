"""The head of a request: read by httptools (llhttp), and held to RFC 9110 and RFC 9112 by rules of our own.

llhttp is fast, and lenient in places that depend on its version. Here nothing rests on its strictness: `_HEAD` is the
grammar, over the raw bytes and in one match, and the rules below it are those that no grammar can say: about ``Host``,
the target, and the framing of the body. Two readers of one head that disagree are how requests are smuggled; so that
which two could read differently is refused. (Linhart et al., "HTTP request smuggling", 2005; Kettle, "HTTP desync
attacks", 2019.)

A target may hold brackets, braces, backslash, caret, backtick and bar, which RFC 3986 wants percent-encoded: browsers
send them in a query as they are (the URL standard, "query percent-encode set").
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import httptools

from softstate.errors import Invalid, TooLarge, Unsupported
from softstate.server.http1.reply import Refused

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_TARGET = rb"[!$%&'()*+,./0-9:;=?@A-Z\[\\\]^_`a-z{|}~-]++"
_FIELD = _TOKEN + rb":[\t -~\x80-\xff]*+\r\n"
_LINE = rb"(" + _TOKEN + rb") (" + _TARGET + rb") HTTP/([0-9])\.([0-9])\r\n"

_HEAD = re.compile(_LINE + rb"(?:" + _FIELD + rb")*+\r\n")
_FIELDS = re.compile(rb"(?:" + _FIELD + rb")*+\r\n")
_FIRST_LINE = re.compile(_LINE)
_ONE_FIELD = re.compile(_FIELD)
_ANY_VERSION = re.compile(rb"[^\r\n]* HTTP/([0-9]+)(?:\.[0-9]+)?\r\n")

_BARE = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")
"""A line feed without a carriage return before it, or the other way round."""

_ABSOLUTE = re.compile(r"https?://([^/?]*)", re.IGNORECASE)
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]++|\[[0-9A-Fa-f:.]++\])(?::([0-9]{0,5}))?")
PORT_MAX = 65_535

_LINES_BESIDE_FIELDS = 2
"""Lines of a head that are no header: the first and the last."""

LENGTH_DIGITS_MAX = 18
"""Digits of a Content-Length: a longer one is refused as nonsense, and not as too large."""

ONCE = frozenset({b"idempotency-key"})
"""Headers that are no lists: joined, as others that are repeated, they would be taken for another value."""

SHOWN_BYTES_MAX = 64
"""Bytes of a bad line that its refusal repeats."""


class RequestHead:
    """The head of a request. `path` is as sent, percent-encoding included; header names are lower case.

    `headers` has repeated ones joined by commas (RFC 9110 section 5.2). `authority` is what a target in absolute form
    names before its path, None in origin form. `body_bytes` is the length of the body, None for a chunked one.
    `close`: the peer wants the connection closed after the reply. `plan` is for the reader's owner: what follows from
    the head alone, and so from all equal ones (`KnownHeads`).
    """

    __slots__ = (
        "authority", "body_bytes", "close", "expects_continue", "headers", "method", "minor", "path", "plan", "query",
    )  # fmt: skip

    def __init__(self, method: str, path: str, query: str, authority: str | None, minor: int) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.authority = authority
        self.minor = minor
        self.headers: dict[bytes, bytes] = {}
        self.body_bytes: int | None = 0
        self.close = minor == 0
        self.expects_continue = False
        self.plan: Any = None


def read_head(raw: bytes, headers_max: int) -> RequestHead:
    """Read a head, from its first byte to the empty line, included. Raises `Refused`."""
    found = _HEAD.fullmatch(raw)
    if found is None:
        _refuse(raw)
    method, target, major, minor = found.groups()
    if major != b"1" or minor not in (b"0", b"1"):
        _refuse_version()
    head = _of_target(method.decode("ascii"), target.decode("ascii"), int(minor))
    fields = _Fields(head.headers)
    try:
        fields.read(raw, method)
    except httptools.HttpParserError as error:
        _check_framing(head)
        raise Refused(400, Invalid(f"this is not valid HTTP/1.1: {error}")) from None
    if fields.count != raw.count(b"\n") - _LINES_BESIDE_FIELDS:
        raise Refused(400, Invalid("this is not valid HTTP/1.1: it can be read in two ways"))
    if fields.count > headers_max:
        message = f"the request's head has {fields.count} headers, the limit is {headers_max} (headers_max)"
        raise Refused(431, TooLarge(message))
    if fields.repeated:
        raise Refused(400, Invalid(f"the header {fields.repeated.decode()} is there twice: send it once"))
    _check_host(head, fields.hosts)
    _check_framing(head)
    connection = head.headers.get(b"connection")
    if connection is not None and b"close" in [token.strip(b" \t") for token in connection.lower().split(b",")]:
        head.close = True
    if head.minor and head.headers.get(b"expect", b"").lower() == b"100-continue":
        head.expects_continue = True
    return head


class _Fields:
    """Takes each header from httptools."""

    __slots__ = ("_headers", "count", "hosts", "repeated")

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        self._headers = headers
        self.count = self.hosts = 0
        self.repeated = b""
        """One of `ONCE` that is there more than once."""

    def read(self, raw: bytes, method: bytes) -> None:
        """Read the header fields of a head that is well-formed. Raises `httptools.HttpParserError`."""
        try:
            httptools.HttpRequestParser(self).feed_data(raw)
        except httptools.HttpParserInvalidMethodError:
            # llhttp has a list of methods, where RFC 9110 has any token: the route refuses those that it does not know.
            self.read(b"GET" + raw[len(method) :], b"GET")
        except httptools.HttpParserUpgrade:
            pass

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        self.count += 1
        name = name.lower()
        value = value.rstrip(b" \t")
        headers = self._headers
        if name == b"host":
            self.hosts += 1
        if name in headers:
            if name in ONCE:
                self.repeated = name
            value = headers[name] + b", " + value
        headers[name] = value


def _of_target(method: str, target: str, minor: int) -> RequestHead:
    """Split a target in one of the four forms of RFC 9112 section 3.2."""
    authority = None
    path, _, query = target.partition("?")
    if method == "CONNECT":
        _check_authority(target, "the target of CONNECT")
        path, query = target, ""
    elif not target.startswith("/"):
        absolute = _ABSOLUTE.match(target)
        if absolute is not None:
            authority = absolute[1]
            _check_authority(authority, "the request's target")
            path, _, query = (target[absolute.end() :] or "/").partition("?")
            path = path or "/"
        elif not (target == "*" and method == "OPTIONS"):
            message = "the request's target must begin with /, or with http:// and a host"
            raise Refused(400, Invalid(message))
    return RequestHead(method, path, query, authority, minor)


def _check_host(head: RequestHead, hosts: int) -> None:
    """Hold ``Host`` to RFC 9112 section 3.2: once, and valid; HTTP/1.0 does without.

    Of what RFC 3986 calls a name only that is valid which a name server could know: no comma, which joins repeated
    headers, and nothing percent-encoded.
    """
    if hosts == 1:
        _check_authority(head.headers[b"host"].decode("latin-1"), "Host")
    elif hosts or head.minor:
        raise Refused(400, Invalid(f"a request needs exactly one Host header, not {hosts}"))


def _check_authority(text: str, what: str) -> None:
    found = _HOST.fullmatch(text)
    if found is None or (found[1] and int(found[1]) > PORT_MAX):
        shown = repr(text[:SHOWN_BYTES_MAX])
        raise Refused(400, Invalid(f"{what} must name a host and perhaps a port, such as 127.0.0.1:8700, not {shown}"))


def _check_framing(head: RequestHead) -> None:
    """Find where the body ends, as RFC 9112 section 6 says; refuse what two readers could understand differently."""
    length, codings = head.headers.get(b"content-length"), head.headers.get(b"transfer-encoding")
    if codings is not None:
        _check_codings(codings)
        if length is not None:
            raise Refused(400, Invalid("a request has a Content-Length or a Transfer-Encoding, not both"))
        if head.minor == 0:
            raise Refused(400, Invalid("HTTP/1.0 has no Transfer-Encoding"))
        head.body_bytes = None
    elif length is not None:
        if not (length.isdigit() and len(length) <= LENGTH_DIGITS_MAX):
            raise Refused(400, Invalid("Content-Length must be given once, as digits"))
        head.body_bytes = int(length)


def _check_codings(codings: bytes) -> None:
    names = [name.strip(b" \t") for name in codings.lower().split(b",")]
    if names == [b"chunked"]:
        return
    if b"" in names or b"chunked" in names[:-1]:
        raise Refused(400, Invalid("Transfer-Encoding must be chunked, once"))
    raise Refused(501, Unsupported("this server knows no Transfer-Encoding but chunked"))


# Heads that are none -------------------------------------------------------------------------------------------------


def check_beginning(data: bytes, scanned: int) -> None:
    """Raise `Refused` for the beginning of a head that nothing can complete; `scanned` bytes were looked at before.

    Without it, a peer that speaks TLS, or ends its lines as Unix does, would wait until its time is over.
    """
    if data[0] != 0x0D and not _ONE_TOKEN.match(data):
        raise Refused(400, Invalid("this is not valid HTTP/1.1: a request begins with a method"))
    if _BARE.search(data, max(0, scanned - 1)):
        raise Refused(400, Invalid(f"this is not valid HTTP/1.1: {_LINE_ENDS}"))


_ONE_TOKEN = re.compile(_TOKEN)
_LINE_ENDS = "each line ends in CR and LF, and neither may stand alone"


def _refuse(raw: bytes) -> NoReturn:
    """Say why a head is not valid."""
    version = _ANY_VERSION.match(raw)
    if version is not None and version[1] != b"1":
        _refuse_version()
    raise Refused(400, Invalid(f"this is not valid HTTP/1.1: {_fault_of(raw)}"))


def _refuse_version() -> NoReturn:
    raise Refused(505, Unsupported("this server speaks HTTP/1.1"))


def _fault_of(raw: bytes) -> str:
    if _BARE.search(raw):
        return _LINE_ENDS
    first, *lines = raw[:-4].split(b"\r\n")
    if not _FIRST_LINE.fullmatch(first + b"\r\n"):
        return f"the first line must be METHOD TARGET HTTP/1.1, each part once and by single spaces: {_shown(first)}"
    bad = next(line for line in lines if not _ONE_FIELD.fullmatch(line + b"\r\n"))
    if bad.startswith((b" ", b"\t")):
        return f"a header may not go on in a second line: {_shown(bad)}"
    return f"a header must be NAME: VALUE, without a blank before the colon and without controls: {_shown(bad)}"


def _shown(line: bytes) -> str:
    return repr(line[:SHOWN_BYTES_MAX].decode("latin-1"))


def check_trailers_begun(raw: bytes) -> None:
    """Raise `Refused` for the beginning of trailers if a line of it ends as none may."""
    if _BARE.search(raw):
        raise Refused(400, Invalid(f"this is not valid HTTP/1.1: {_LINE_ENDS}"))


def check_trailers(raw: bytes) -> None:
    """Raise `Refused` for trailers that are not well-formed: header fields and an empty line. They are not read."""
    if not _FIELDS.fullmatch(raw):
        raise Refused(400, Invalid("this is not valid HTTP/1.1: a trailer is malformed"))
