"""A client of streams in a simulated world: it has nothing but HTTP, and the reader of events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import final
from urllib.parse import quote, urlsplit

import trio

from softstate.testing.event_reader import StreamReader
from softstate.testing.simulation.clocks import SimClock
from softstate.testing.simulation.environment import Environment
from softstate.testing.simulation.freezer import start_on
from softstate.testing.trace import AgeSampled, ChangeDelivered, ResetDelivered, Subscribed

RETRY_S = 2.0
"""Pause before the next stream if no node has told another."""

SILENCE_S = 25.0
"""Time without a byte after which a stream is left: twice that between two `sync`s, and some."""


@final
class StreamListener:
    """Follows names by streams, one after the other, from each of its `urls` in turn, until the world ends."""

    def __init__(self, environment: Environment, name: str, names: Sequence[str], urls: Sequence[str]) -> None:
        self.name = name
        self.clock = SimClock()
        self.reader = StreamReader(tuple(names))
        self.streams = 0
        """The streams that were asked for."""
        self._environment = environment
        self._urls = list(urls)
        self._opener = environment.network.opener(name)

    def start(self) -> None:
        """Begin to listen."""
        start_on(self.name, self._environment.nursery, self._run)

    async def _run(self) -> None:
        self._environment.trace.add(Subscribed(trio.current_time(), self.name, 1, self.reader.names))
        while True:
            with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):  # as at the end of a stream
                await self._listen(self._urls[self.streams % len(self._urls)])
            told_ms = self.reader.retry_ms
            await trio.sleep(RETRY_S if told_ms is None else told_ms / 1000)

    async def _listen(self, url: str) -> None:
        self.streams += 1
        self.reader.asked(self.clock.now())
        place = urlsplit(url)
        assert place.hostname is not None
        assert place.port is not None
        stream = await self._opener(place.hostname, place.port, False)
        try:
            await stream.send_all(self._request(place.netloc))
            head = b""
            while b"\r\n\r\n" not in head:
                head += await self._receive(stream)
            first, _, rest = head.partition(b"\r\n\r\n")
            if first.split(b" ")[1] != b"200":
                return
            self._take(rest)
            while self.reader.ended is None:
                self._take(await self._receive(stream))
        finally:
            await trio.aclose_forcefully(stream)

    def _request(self, host: str) -> bytes:
        kinds = (("prefix" if name.endswith("/") else "topic", name) for name in self.reader.names)
        query = "&".join(f"{kind}={quote(name, safe='')}" for kind, name in kinds)
        last = f"Last-Event-ID: {self.reader.last_id}\r\n" if self.reader.last_id else ""
        return f"GET /v1/events?{query} HTTP/1.1\r\nHost: {host}\r\n{last}\r\n".encode()

    async def _receive(self, stream: trio.abc.ReceiveStream) -> bytes:
        with trio.move_on_after(SILENCE_S):
            data = await stream.receive_some()
            if data:
                return bytes(data)
        raise trio.BrokenResourceError

    def _take(self, data: bytes) -> None:
        self.reader.feed(data, self.clock.now())
        now, add = trio.current_time(), self._environment.trace.add
        for change in self.reader.news:
            if change is None:
                add(ResetDelivered(now, self.name, 1))
            else:
                value = json.loads(json.dumps(change.value))
                add(ChangeDelivered(now, self.name, 1, change.topic, change.version, value, change.deleted, self.age()))
        self.reader.news.clear()

    def age(self) -> float:
        """Return how old its values are at most, in seconds."""
        return self.reader.age_s(self.clock.now())

    def sample(self) -> None:
        """Record its age and all it knows."""
        known = [(topic, version, False) for topic, (version, _) in self.reader.values.items()]
        known += [(topic, version, True) for topic, version in self.reader.deleted.items()]
        sample = AgeSampled(
            trio.current_time(),
            self.name,
            1,
            self.age(),
            "streaming",
            tuple(sorted(known)),
            tuple(sorted(self.reader.unreadable)),
        )
        self._environment.trace.add(sample)
