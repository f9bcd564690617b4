"""A large first snapshot through the whole client, with the CPU of each stage, and the least that it could cost.

``python -m bench.load.snapshot``, driven over `bench.load.process`; meant for one run in each process, so that no run
inherits another's heap. The client is the real one, put together as `softstate.connect` does it, with a codec, a
machine and a dispatcher that look at the process's CPU clock between stages: once for each message, not for each
change. The application iterates once all has arrived, so that every change waits for it at once.
"""

from __future__ import annotations

import time
from random import Random
from typing import Any, cast

import cbor2
import trio

from bench.load.process import LoadFailed, serve
from softstate.client.api.client import Client
from softstate.client.api.dispatcher import Dispatcher
from softstate.client.machine.events import Action, Arrived, Event, PollAnswered
from softstate.client.machine.machine import Machine, MachineOptions
from softstate.client.requests.reading import Reading
from softstate.client.shell.clock import BootClock
from softstate.client.shell.http import HttpClient
from softstate.client.shell.reader import Reader
from softstate.client.shell.shell import Driven, Shell, ToApplication
from softstate.client.url import parse_url
from softstate.http_client.streams import open_tcp
from softstate.model import PAGE_RECORDS_MAX, Change
from softstate.position import Position
from softstate.wire import CBOR, Codec
from softstate.wire.messages import Batch, BatchChange, Polled, Subscribed

VALUE = "x" * 100
BATCH = 1_000
"""Changes in one request while topics are published."""
SYNC_S_MAX = 600.0
TOPICS_IN_FOLDER = 100
"""Topics that share their last prefix."""
STAGES = ("decode", "machine", "inbox", "iterate")
"""Stages of a change, in order."""


def prefix_of(count: int) -> str:
    """Return the prefix of the snapshot with `count` topics."""
    return f"snapshot-{count}/"


def topic_of(count: int, number: int) -> str:
    """Return the topic `number` of the snapshot with `count` topics."""
    return f"{prefix_of(count)}{number // TOPICS_IN_FOLDER:05}/{number % TOPICS_IN_FOLDER:02}"


def fill(url: str, count: int) -> dict[str, float]:
    """Publish the topics of one snapshot."""
    trio.run(_fill, url, count)
    return {"topics": count}


async def _fill(url: str, count: int) -> None:
    http = HttpClient(open_tcp, CBOR)
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        body = CBOR.dumps(Batch([BatchChange(topic_of(count, number), VALUE) for number in numbers]))
        reply = await http.request(parse_url(url), "POST", "/v1/publish", body=body, timeout_s=SYNC_S_MAX)
        if reply.status != 200 or b"message" in reply.body[:200]:
            raise LoadFailed(f"the node refused to publish: {reply.body[:200]!r}")
    await http.aclose()


def floor(count: int) -> dict[str, float]:
    """Decode the pages of a snapshot and put their changes into a dict; return the CPU seconds of a change."""
    changes = [Change(topic_of(count, number), number + 1, VALUE) for number in range(count)]
    here = Position("e", "l", count)
    pages = [
        CBOR.encode(Subscribed("subscribe-1", here, changes[at : at + PAGE_RECORDS_MAX], more=True))
        for at in range(0, count, PAGE_RECORDS_MAX)
    ]
    del changes
    known: dict[str, Any] = {}
    began = time.process_time()
    for page in pages:
        for change in cbor2.loads(page)["changes"]:
            known[change["topic"]] = change
    took_s = time.process_time() - began
    if len(known) != count:
        raise LoadFailed(f"{len(known)} of {count} topics")
    return {"cpu_s": took_s / count}


class Stages:
    """CPU seconds by stage, and what arrived."""

    def __init__(self) -> None:
        self.cpu_s = dict.fromkeys(STAGES, 0.0)
        self.pages = 0
        self.changes = 0
        self.first_byte_s = 0.0

    def add(self, stage: str, since_s: float) -> float:
        """Add what has passed since `since_s`; return the present time."""
        now_s = time.process_time()
        self.cpu_s[stage] += now_s - since_s
        return now_s


class StagedCodec:
    """CBOR, timed."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages

    def __getattr__(self, name: str) -> Any:
        return getattr(CBOR, name)

    def server_message(self, data: Any) -> Any:
        """Decode a message of a connection."""
        began = time.process_time()
        message = CBOR.server_message(data)
        self._stages.add("decode", began)
        return message

    def loads(self, data: bytes, kind: Any) -> Any:
        """Decode the body of a response."""
        began = time.process_time()
        message = CBOR.loads(data, kind)
        self._stages.add("decode", began)
        return message


class StagedMachine:
    """The machine, timed; and, from its return until the shell is done with its actions, the inbox."""

    def __init__(self, machine: Machine, stages: Stages) -> None:
        self._machine = machine
        self._stages = stages
        self.returned_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Count pages, and handle the event."""
        message = event.message if isinstance(event, Arrived | PollAnswered) else None
        if isinstance(message, Subscribed | Polled):
            self._stages.pages += 1
            self._stages.changes += len(message.changes)
            self._stages.first_byte_s = self._stages.first_byte_s or time.perf_counter()
        began = time.process_time()
        actions = self._machine.handle(event, now)
        self.returned_s = self._stages.add("machine", began)
        return actions


class StagedApplication:
    """The dispatcher; what the shell gave it since the machine returned is the stage of the inbox."""

    def __init__(self, dispatcher: Dispatcher, machine: StagedMachine, stages: Stages) -> None:
        self._dispatcher = dispatcher
        self._machine = machine
        self._stages = stages

    def perform(self, action: ToApplication) -> None:
        """As the dispatcher."""
        self._dispatcher.perform(action)

    def advanced(self) -> None:
        """End the stage."""
        self._stages.add("inbox", self._machine.returned_s)
        self._dispatcher.advanced()


def follow(url: str, count: int) -> dict[str, float]:
    """Follow one snapshot until its last change is iterated; return seconds, and CPU seconds of a change by stage."""
    return trio.run(_follow, url, count)


async def _follow(url: str, count: int) -> dict[str, float]:
    stages, random, clock = Stages(), Random(1), BootClock()
    parsed = parse_url(url)
    http = HttpClient(open_tcp, cast("Codec", StagedCodec(stages)))
    machine = StagedMachine(Machine(MachineOptions((str(parsed),)), random), stages)
    driven, dispatcher = cast("Driven", machine), Dispatcher()
    shell = Shell(driven, StagedApplication(dispatcher, machine, stages), open_tcp, http, clock)
    client = Client(
        driven, shell, dispatcher, Reader(http, Reading([parsed], random, http.cell, trio.current_time)), clock, random
    )
    began = time.process_time()
    async with trio.open_nursery() as nursery:
        shell.open(nursery)
        with trio.fail_after(SYNC_S_MAX):
            async with client.subscribe(prefix_of(count)) as updates:
                await updates.synced()
                iterating = time.process_time()
                seen = 0
                async for _ in updates:
                    seen += 1
                    if seen == count:
                        break
                stages.add("iterate", iterating)
                whole_s = time.perf_counter() - stages.first_byte_s
        cpu_s = time.process_time() - began
        client.close()
    needed = max(-(-count // PAGE_RECORDS_MAX), 1)
    each = {f"{stage}_s": spent_s / count for stage, spent_s in stages.cpu_s.items()}
    rest_s = (cpu_s - sum(stages.cpu_s.values())) / count
    return {
        **each,
        "rest_s": rest_s,
        "cpu_s": cpu_s / count,
        "whole_s": whole_s,
        "pages": stages.pages / needed,
        "changes": stages.changes / count,
        "iterated": seen,
    }


if __name__ == "__main__":
    serve({"fill": fill, "floor": floor, "follow": follow})
