"""Askers that insist, and innocents beside them: what a node serves when more is asked than it can do.

``python -m bench.load.insistent``, driven over `bench.load.process`. Each asker has a connection, asks page after page
of one long answer, and then again. It waits for an answer as long as a client does; then it hangs up, connects and asks
again at once, which is what keeps an overloaded node overloaded. A refusal is obeyed. Innocents read one topic by the
clock on connections of their own; one more asks whether the node is ready.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import trio

from bench.load.closed_loop import http_is_whole
from bench.load.process import serve

PATIENCE_S = 5.0
"""Time that an asker waits for an answer: the `timeout_ms` of a node."""

INNOCENT_EVERY_S = 0.05
READY_EVERY_S = 0.1
RETRY_S = 1.0
RECEIVE_BYTES = 262_144

_CURSOR = re.compile(rb'"cursor":"([^"]+)"')


class Load:
    """One run of load against a port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.counts: Counter[str] = Counter()
        self.took_s: list[float] = []
        self.waits_s: list[float] = []

    async def insist(self, body: dict[str, Any]) -> None:
        """Ask for all pages of a poll, again and again."""
        cursor = b""
        while True:
            stream = await trio.open_tcp_stream("127.0.0.1", self._port)
            with trio.CancelScope() as hung_up:
                while True:
                    asked = body | ({"cursor": cursor.decode()} if cursor else {})
                    begun = trio.current_time()
                    hung_up.deadline = begun + PATIENCE_S
                    status, answer = await ask(stream, "POST", "/v1/poll", json.dumps(asked))
                    hung_up.deadline = math.inf
                    if status == 200:
                        self.counts["pages"] += 1
                        self.waits_s.append(trio.current_time() - begun)
                        found = _CURSOR.search(answer)
                        cursor = b"" if found is None else found[1]
                        continue
                    self.counts["refused"] += 1
                    told = json.loads(answer).get("retry_ms")
                    await trio.sleep(RETRY_S if told is None else told / 1000)
            self.counts["given_up"] += 1
            await trio.aclose_forcefully(stream)

    async def be_innocent(self, path: str) -> None:
        """Read one topic by the clock, and note how long each read takes from when it is due.

        A slow answer makes the next reads late, and that counts. When this is cancelled, all reads that are due and not
        answered count as long as they have waited: an answer that never comes must not look better than a late one.
        """
        due = trio.current_time()
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", self._port)
            while True:
                await trio.sleep_until(due)
                status, _ = await ask(stream, "GET", path)
                self.took_s.append(trio.current_time() - due)
                self.counts["innocents_failed"] += status != 200
                due += INNOCENT_EVERY_S
        finally:
            ended = trio.current_time()
            while due < ended:
                self.took_s.append(ended - due)
                due += INNOCENT_EVERY_S

    async def look(self) -> None:
        """Ask whether the node is ready."""
        stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        while True:
            status, _ = await ask(stream, "GET", "/readyz")
            self.counts["not_ready"] += status != 200
            await trio.sleep(READY_EVERY_S)


async def ask(stream: trio.SocketStream, method: str, path: str, body: str = "") -> tuple[int, bytes]:
    """Send a request and return status and body of its answer."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    await stream.send_all(head.encode() + body.encode())
    data = b""
    while not http_is_whole(data):
        more = await stream.receive_some(RECEIVE_BYTES)
        if not more:
            return 0, b"{}"
        data += more
    return int(data[9:12]), data.partition(b"\r\n\r\n")[2]


def load(port: int, askers: int, innocents: int, body: dict[str, Any], topic: str, seconds: float) -> dict[str, Any]:
    """Load a node for so many seconds, and count what it served."""
    run = Load(port)

    async def all_of_them() -> None:
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run.look)
                for _ in range(askers):
                    nursery.start_soon(run.insist, body)
                for _ in range(innocents):
                    nursery.start_soon(run.be_innocent, f"/v1/topics/{topic}")

    cpu_ns, start = time.process_time_ns(), time.monotonic()
    trio.run(all_of_them)
    wall_s = time.monotonic() - start
    counted = {name: run.counts[name] for name in ("pages", "refused", "given_up", "innocents_failed", "not_ready")}
    return {
        **counted,
        "wall_s": wall_s,
        "generator_cpu_s": (time.process_time_ns() - cpu_ns) / 1e9,
        "innocents_p50_s": quantile(run.took_s, 0.5),
        "innocents_p99_s": quantile(run.took_s, 0.99),
        "asker_p50_s": quantile(run.waits_s, 0.5),
    }


def quantile(values: list[float], part: float) -> float:
    """Return a quantile, 0 of none."""
    return sorted(values)[int(len(values) * part)] if values else 0.0


def main() -> None:
    """Serve commands until the parent ends."""
    commands: dict[str, Callable[..., dict[str, Any]]] = {"load": load}
    serve(commands)


if __name__ == "__main__":
    main()
