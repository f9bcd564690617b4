"""Lint the replies of a real node with httplint, the checks of REDbot: ``lint_http.py PYTHON``.

PYTHON is an interpreter that has softstate; httplint needs an environment of its own, since a package that it installs
is called ``tests``. Exits with 1 for any finding that is bad, or a warning, but for those in `EXPECTED`.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from httplint import HttpRequestLinter, HttpResponseLinter

Header = tuple[bytes, bytes]

EXPECTED = {
    "STATUS_BAD_REQUEST": "the request was bad",
    "REQUEST_HDR_IN_RESPONSE": "Accept-Encoding belongs to 415 (RFC 9110 section 15.5.16)",
}
"""Findings that are none, and why."""

BODY = (b"Content-Length", b"1")
REQUESTS: Sequence[tuple[bytes, bytes, Sequence[Header], bytes, int]] = (
    (b"PUT", b"/v1/topics/a", [BODY], b"1", 200),
    (b"GET", b"/v1/topics/a", [], b"", 200),
    (b"GET", b"/v1/topics/a", [(b"Accept", b"application/cbor")], b"", 200),
    (b"GET", b"/v1/topics/a", [(b"If-None-Match", b"*")], b"", 304),
    (b"HEAD", b"/v1/topics/a", [], b"", 200),
    (b"GET", b"/v1/topics/a", [(b"Origin", b"http://evil.example")], b"", 403),
    (b"PUT", b"/v1/topics/a", [BODY, (b"If-None-Match", b"*")], b"1", 412),
    (b"PUT", b"/v1/topics/a", [BODY, (b"Content-Encoding", b"gzip")], b"1", 415),
    (b"PUT", b"/v1/topics/a", [(b"Content-Length", b"99999999")], b"", 413),
    (b"DELETE", b"/v1/topics/a", [], b"", 200),
    (b"GET", b"/v1/topics/a", [], b"", 404),
    (b"GET", b"/v1/topics/a?wait=1", [], b"", 400),
    (b"GET", b"/v1/topics", [], b"", 200),
    (b"POST", b"/v1/poll", [(b"Content-Length", b"2")], b"{}", 200),
    (b"POST", b"/v1/publish", [(b"Content-Length", b"14")], b'{"changes":[]}', 200),
    (b"BREW", b"/v1/poll", [], b"", 405),
    (b"OPTIONS", b"/v1/poll", [], b"", 204),
    (b"OPTIONS", b"*", [], b"", 204),
    (b"GET", b"/v1/ws", [], b"", 426),
    (b"GET", b"/v1/status", [], b"", 200),
    (b"GET", b"/metrics", [], b"", 200),
    (b"GET", b"/healthz", [], b"", 200),
    (b"GET", b"/readyz", [], b"", 200),
    (b"GET", b"/nowhere", [], b"", 404),
    (b"GET", b"/v1/topics/a", [(b"X ", b"1")], b"", 400),
    (b"GET", b"/v1/topics/a", [(b"Transfer-Encoding", b"gzip")], b"", 501),
)


def exchange(port: int, request: bytes) -> bytes:
    """Send a request and the end; return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while more := connection.recv(65536):
            received += more
    return received


def findings(method: bytes, url: bytes, sent: Sequence[Header], received: bytes) -> list[str]:
    """Return what the linter has against a reply."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    request = HttpRequestLinter(start_time=time.time())
    request.process_request_topline(method, url, b"HTTP/1.1")
    request.process_headers(list(sent))
    request.finish_content(True)
    reply = HttpResponseLinter(start_time=time.time(), no_content=method == b"HEAD")
    reply.request = request
    reply.process_response_topline(*first.split(b" ", 2))
    reply.process_headers([tuple(line.split(b": ", 1)) for line in lines])
    if method != b"HEAD":
        reply.feed_content(body)
    reply.finish_content(True)
    return [
        f"{note.level.name} {type(note).__name__}: {note.summary}"
        for note in reply.notes
        if note.level.name in ("BAD", "WARN") and type(note).__name__ not in EXPECTED
    ]


def main(python: str) -> int:
    """Start a node, ask it everything, and say what is wrong; return the exit code."""
    command = [python, "-m", "softstate", "serve", "--store", "memory:", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as node:
        try:
            assert node.stdout is not None
            said = next(line for line in node.stdout if "listens on" in line)
            port = int(re.search(r"127\.0\.0\.1:(\d+)", said)[1])  # type: ignore[index]
            bad = sum(lint(port, *request) for request in REQUESTS)
        finally:
            node.terminate()
    print(f"{len(REQUESTS)} replies linted, {bad} findings")
    return 1 if bad else 0


def lint(port: int, method: bytes, target: bytes, headers: Sequence[Header], body: bytes, status: int) -> int:
    """Ask one thing; print and count what is wrong with the reply."""
    host = b"127.0.0.1:%d" % port
    sent = [(b"Host", host), *headers]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in sent)
    received = exchange(port, method + b" " + target + b" HTTP/1.1\r\n" + lines + b"\r\n" + body)
    found = findings(method, b"http://" + host + target.replace(b"*", b"/"), sent, received)
    if not received.startswith(b"HTTP/1.1 %d " % status):
        found.append(f"{received[:40]!r} instead of {status}")
    for finding in found:
        print(f"{method.decode()} {target.decode()} {dict(headers)}: {finding}")
    return len(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
