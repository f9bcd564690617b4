"""The protocol of etcd: puts, and a watch, over HTTP/1.1 to its JSON gateway, without TLS."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any

from bench.load.closed_loop import http_is_whole
from bench.load.engines.dialect import Dialect, Line, Listener, Writer
from bench.load.process import LoadFailed
from softstate.store.remote.url import read_url


class Etcd(Dialect):
    """Keys ``MARK/told/N`` and ``MARK/bare/N``; those below ``MARK/told/`` are watched."""

    def __init__(self, url: str, mark: str) -> None:
        parts = read_url(url, port=2379, options={"namespace"})
        self._host, self._port = parts.hosts[0]
        self._mark = mark
        self._token = ""
        if parts.user:
            body = {"name": parts.user, "password": parts.password or ""}
            self._token = self._ask("/v3/auth/authenticate", body)["token"]

    def writer(self) -> EtcdWriter:
        """Connect."""
        return EtcdWriter(Line(self._host, self._port), self)

    def listener(self) -> EtcdListener:
        """Connect and watch; return when etcd has confirmed the watch."""
        line = Line(self._host, self._port)
        line.socket.sendall(self.request("/v3/watch", {"create_request": self._range(f"{self._mark}/told/")}))
        while b'"created":true' not in line.receive():
            http_is_good(line.rest)
        line.rest = b""
        return EtcdListener(line)

    def clear(self) -> None:
        """Delete all keys below the mark."""
        self._ask("/v3/kv/deleterange", self._range(f"{self._mark}/"))

    def put(self, topic: int, value: bytes, *, tell: bool) -> bytes:
        """Return the request of a write."""
        key = f"{self._mark}/{'told' if tell else 'bare'}/{topic:03}".encode()
        return self.request("/v3/kv/put", {"key": _base64(key), "value": _base64(value)})

    def request(self, path: str, body: object) -> bytes:
        """Return a POST to the JSON gateway."""
        data = json.dumps(body).encode()
        token = f"Authorization: {self._token}\r\n" if self._token else ""
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n{token}Content-Length: {len(data)}\r\n\r\n"
        return head.encode() + data

    def _range(self, prefix: str) -> dict[str, str]:
        key = prefix.encode()
        return {"key": _base64(key), "range_end": _base64(key[:-1] + bytes([key[-1] + 1]))}

    def _ask(self, path: str, body: object) -> dict[str, Any]:
        line = Line(self._host, self._port)
        line.socket.sendall(self.request(path, body))
        while not http_is_whole(line.receive()):
            pass
        http_is_good(line.rest)
        answer: dict[str, Any] = json.loads(line.rest.partition(b"\r\n\r\n")[2])
        line.socket.close()
        return answer


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def http_is_good(data: bytes) -> None:
    """Raise `LoadFailed` unless the data begins a reply with status 200."""
    if not b"HTTP/1.1 200 ".startswith(data[:13]):
        raise LoadFailed(f"etcd answered {data[:400]!r}")


class EtcdWriter(Writer):
    """A connection with one put under way, answered when it is in the logs of a majority."""

    def __init__(self, line: Line, etcd: Etcd) -> None:
        self.fd = line.socket.fileno()
        self._line = line
        self._etcd = etcd

    def write(self, topic: int, value: bytes, *, tell: bool) -> None:
        """Send a put."""
        self._line.socket.sendall(self._etcd.put(topic, value, tell=tell))

    def acknowledged(self) -> bool:
        """Receive, and check the answer when it is complete."""
        data = self._line.receive()
        http_is_good(data)
        if not http_is_whole(data):
            return False
        self._line.rest = b""
        return True


class EtcdListener(Listener):
    """The answer to a watch: chunks of lines, each line some events."""

    def __init__(self, line: Line) -> None:
        self.fd = line.socket.fileno()
        self._line = line
        self._text = b""

    def values(self) -> list[bytes]:
        """Receive, and decode complete lines."""
        text, self._line.rest = unchunked(self._line.receive())
        *lines, self._text = (self._text + text).split(b"\n")
        values = []
        for line in lines:
            message = json.loads(line)
            if "result" not in message:
                raise LoadFailed(f"etcd ended the watch: {line[:400]!r}")
            values += [b64decode(event["kv"]["value"]) for event in message["result"].get("events", ())]
        return values


def unchunked(data: bytes) -> tuple[bytes, bytes]:
    """Return the content of the complete chunks at the start of an HTTP body, and the bytes after them."""
    parts = []
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end], 16)
        if len(data) < end + 4 + size:
            break
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 4 + size
    return b"".join(parts), data[at:]
