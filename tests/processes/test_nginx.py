"""Streams and held polls behind nginx with the defaults of its package: HTTP/1.0 to the node, and buffering."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from softstate.testing.event_reader import StreamReader
from tests.kit.nginx import nginx as kit_nginx
from tests.kit.processes import WAIT_S, Server, free_port, running, until


@contextmanager
def nginx(folder: Path, node: Server) -> Iterator[int]:
    """Run nginx in front of a node; yield its port."""
    port = free_port()
    server = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{node.port}; }} }}"
    with kit_nginx(folder, port, server):
        yield port


class Listening:
    """One stream at a time, read through nginx."""

    def __init__(self, port: int, *names: str) -> None:
        self.port = port
        self.reader = StreamReader(names)
        self.reply: http.client.HTTPResponse
        self.connection: http.client.HTTPConnection

    def open(self) -> None:
        connection = self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        query = "&".join(f"prefix={quote(name)}" for name in self.reader.names)
        headers = {"Accept-Encoding": "gzip", "Accept": "text/event-stream"}
        if self.reader.last_id:
            headers["Last-Event-ID"] = self.reader.last_id
        self.reader.asked(time.monotonic())
        connection.request("GET", f"/v1/events?{query}", headers=headers)
        self.reply = connection.getresponse()

    def close(self) -> None:
        self.reply.close()
        self.connection.close()

    def until(self, what: str, check: Any) -> None:
        """Read until something is so."""
        while not check():
            data = self.reply.read1(4096)
            assert data or check(), f"the stream ended before {what}"
            self.reader.feed(data, time.monotonic())


def test_events_pass_nginx_at_once_and_as_they_are(tmp_path: Path) -> None:
    with running(tmp_path, stream_s=4, sync_ms=1_000) as node, nginx(tmp_path, node) as port:
        node.put("t/a", 1)
        client = Listening(port, "t/")
        client.open()
        assert client.reply.status == 200
        assert client.reply.getheader("Content-Type") == "text/event-stream"
        assert client.reply.getheader("Content-Encoding") is None
        client.until("the listing", lambda: client.reader.last_id)
        assert client.reader.values["t/a"][1] == 1
        for number in range(3):
            version = node.put("t/b", number)
            # It would wait for more bytes, or for the end of the stream, if anything on the way held it back.
            client.until("the change", lambda version=version: client.reader.values.get("t/b", (0,))[0] == version)
            assert client.reader.ended is None
        client.until("the end", lambda: client.reader.ended)
        assert client.reader.ended == "renew"
        client.close()
        node.put("t/c", 9)
        client.open()
        client.until("what came between", lambda: "t/c" in client.reader.values)
        assert client.reader.age_s(time.monotonic()) < WAIT_S
        client.close()


def test_a_poll_is_held_behind_nginx_and_noticed_when_it_is_left(tmp_path: Path) -> None:
    with running(tmp_path) as node, nginx(tmp_path, node) as port:
        version = node.put("a", 1)
        body = json.dumps({"topics": {"a": version}, "wait_ms": 20_000})
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        connection.request("POST", "/v1/poll", body)
        until("the poll is held", lambda: _holds(node) == 1)
        node.put("a", 2)
        answer = json.loads(connection.getresponse().read())
        assert [change["value"] for change in answer["changes"]] == [2]
        assert answer["held_ms"] >= 0
        connection.request("POST", "/v1/poll", body.replace(str(version), str(version + 1)))
        until("the next is held", lambda: _holds(node) == 1)
        connection.close()
        until("its end is noticed", lambda: _holds(node) == 0)


def _holds(node: Server) -> int:
    with http_get(node, "/metrics") as text:
        lines = [line for line in text.splitlines() if line.startswith("softstate_http_holds ")]
    return int(float(lines[0].split()[1]))


@contextmanager
def http_get(node: Server, path: str) -> Iterator[str]:
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=WAIT_S)
    try:
        connection.request("GET", path)
        yield connection.getresponse().read().decode()
    finally:
        connection.close()
