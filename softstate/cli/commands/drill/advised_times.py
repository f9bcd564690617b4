"""The times that a node advises in `welcome`, and the bounds that follow from them (promises B and L)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from softstate.cli.exit_codes import UNAVAILABLE, Failure
from softstate.cli.options.credentials import read_token
from softstate.client.machine.backoff import JITTER
from softstate.client.machine.beat_watch import LATE, RATE
from softstate.client.machine.state import BEAT_MS
from softstate.client.shell.sockets import Gone, HandshakeFailed
from softstate.client.shell.websocket import open_websocket
from softstate.client.url import NodeUrl, parse_url
from softstate.http_client.streams import OpenStream, open_tcp
from softstate.wire import CBOR
from softstate.wire.messages import ClientBye, Hello, Welcome

SERVICE_S = 3.0
"""The service time of promise L: the time a node may take to serve all clients that came back within the spread."""

DRIFT = 1 - RATE
"""A beat's age grows by this for each second since the answer that it is anchored in."""

ASK_S_MAX = 10.0


@dataclass(frozen=True, slots=True)
class AdvisedTimes:
    """The node's advice, in seconds."""

    ttl_s: float
    renew_s: float
    timeout_s: float
    poll_every_s: float
    poll_spread_s: float
    recover_spread_s: float
    recover_cap_s: float
    beat_s: float
    """Time between two beats; 0 if there are none."""
    durability: str

    @classmethod
    def of(cls, welcome: Welcome) -> AdvisedTimes:
        """Read them from a `welcome`."""
        return cls(
            welcome.ttl_ms / 1000,
            welcome.renew_ms / 1000,
            welcome.timeout_ms / 1000,
            welcome.poll.every_ms / 1000,
            welcome.poll.spread_ms / 1000,
            welcome.recover.spread_ms / 1000,
            welcome.recover.cap_ms / 1000,
            welcome.beat_ms / 1000,
            str(welcome.durability),
        )

    @property
    def age_s_max(self) -> float:
        """Promise B: the highest age of a client that can reach a node.

        Cut off in silence, it misses a beat or the answer to a renewal, and learns of that within `timeout_s`; then it
        polls, after the spread. A round trip is taken to last `timeout_s` at most: what takes longer counts as not
        answered.
        """
        slow = 1 + JITTER
        certified_s = LATE * self.beat_s + DRIFT * slow * self.renew_s if self.beat_s else slow * self.renew_s
        cut_off_s = certified_s + self.timeout_s + self.poll_spread_s
        return max(cut_off_s, slow * self.poll_every_s) + self.timeout_s

    @property
    def converge_s_max(self) -> float:
        """Promise L: how long after the last fault healed every client equals the store, service time included."""
        slow = 1 + JITTER
        return max(self.recover_spread_s, self.recover_cap_s, slow * self.poll_every_s, slow * self.renew_s) + SERVICE_S


async def ask_times(
    urls: Sequence[str], open_stream: OpenStream = open_tcp, token_file: Path | None = None
) -> AdvisedTimes:
    """Take a lease on the first node that gives one, read its times, and release it. Raises `Failure` if none does."""
    token = None if token_file is None else await trio.to_thread.run_sync(read_token, token_file)
    said = ""
    for url in urls:
        async with trio.open_nursery() as nursery:
            try:
                with trio.move_on_after(ASK_S_MAX):
                    return await _greet(nursery, parse_url(url), open_stream, token)
            except (HandshakeFailed, Gone) as error:
                said = str(error)
            finally:
                nursery.cancel_scope.cancel()
    raise Failure(f"no node offers a lease: {said or 'none answered in time'}", UNAVAILABLE)


async def _greet(nursery: trio.Nursery, url: NodeUrl, open_stream: OpenStream, token: str | None) -> AdvisedTimes:
    websocket = await open_websocket(nursery, url, CBOR, open_stream, ASK_S_MAX)
    try:
        await websocket.send(CBOR.encode(Hello(name="softstate drill", beat_ms=BEAT_MS, token=token)))
        message = CBOR.server_message(await websocket.receive())
        if not isinstance(message, Welcome):
            raise HandshakeFailed(f"{url} answered hello with {type(message).__name__.lower()}")
        await websocket.send(CBOR.encode(ClientBye()))
    finally:
        await websocket.aclose()
    return AdvisedTimes.of(message)
