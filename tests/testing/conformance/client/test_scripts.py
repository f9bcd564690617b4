"""The scripts of level 4, in virtual time: the Python client keeps to each, by either WebSocket library and codec."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from softstate.client.api.inbox import Inboxes
from softstate.client.api.updates import Updates
from softstate.client.machine.events import Action, Reset
from softstate.client.machine.knowledge import Knowledge
from softstate.client.machine.push_path import PushPath
from softstate.client.requests import posting
from softstate.client.shell import http, shell, websocket as websocket_module
from softstate.client.shell.asyncio_websockets import AsyncioWebSocket
from softstate.client.shell.clock import TrioClock
from softstate.client.shell.shell import _Connection
from softstate.testing.conformance.client.adapter import Adapter
from softstate.testing.conformance.client.form import Json
from softstate.testing.conformance.client.node import USAGE, main
from softstate.testing.conformance.client.player import SCRIPTS, Player, ScriptFails
from softstate.testing.conformance.client.sockets import Port
from softstate.testing.conformance.client.trace import Trace, load_all
from softstate.wire.messages import ClientBye

TRACES = {script.name: script for script in load_all(SCRIPTS)}

Break: TypeAlias = Callable[[pytest.MonkeyPatch], None]


async def play_in_memory(script: Trace, codec: str) -> None:
    """Play a script over streams in memory, in this loop."""
    port = Port()
    async with trio.open_nursery() as nursery:

        async def open_stream(_: str, __: int, ___: bool) -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = memory_stream_pair()
            nursery.start_soon(port.connection, theirs)
            return ours

        options = {"codec": codec, "open_stream": open_stream, "clock": TrioClock(), "random": Random(1)}
        adapter = Adapter(nursery)  # type: ignore[arg-type]  # of anyio, whose methods that are used Trio's have

        async def ask(command: Json) -> Json:
            return await adapter.ask({**command, **options} if command["client"] == "open" else command)

        failure: ScriptFails | None = None
        try:
            await Player(script, port, "ws://node", ask, nursery).play()
        except ScriptFails as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


@pytest.mark.parametrize(("library", "codec"), [("trio", "cbor"), ("asyncio", "json")])
@pytest.mark.parametrize("name", TRACES)
async def test_the_client_keeps_to_a_script(
    name: str, library: str, codec: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(websocket_module, "running_loop", lambda: library)
    await play_in_memory(TRACES[name], codec)


# Each rule that is missing is noticed --------------------------------------------------------------------------------


def instead(owner: Any, name: str, replacement: Any) -> Break:
    return lambda patch: patch.setattr(owner, name, replacement)


def _no_token(patch: pytest.MonkeyPatch) -> None:
    for module in (http, shell):
        patch.setattr(module, "authorization", lambda _: [])


def _no_reset(patch: pytest.MonkeyPatch) -> None:
    perform = Inboxes.perform

    def but_resets(self: Inboxes, action: Action) -> None:
        if not isinstance(action, Reset):
            perform(self, action)  # type: ignore[arg-type]

    patch.setattr(Inboxes, "perform", but_resets)


def _no_goodbye(patch: pytest.MonkeyPatch) -> None:
    send = _Connection.send

    def but_bye(self: _Connection, message: Any) -> None:
        if not isinstance(message, ClientBye):
            send(self, message)

    patch.setattr(_Connection, "send", but_bye)


def _fragments_are_messages(patch: pytest.MonkeyPatch) -> None:
    def take(self: AsyncioWebSocket, frame: Any) -> None:
        self._arrived.append(bytes(frame.data))

    patch.setattr(AsyncioWebSocket, "_take", take)


MUTANTS: dict[str, tuple[str, Break]] = {
    "the handshake has no token": ("connect/token", _no_token),
    "a reset is not told": ("lost/reset", _no_reset),
    "no goodbye": ("connect/live", _no_goodbye),
    "fragments are messages": ("connect/frames", _fragments_are_messages),
    "later operations break a connection": ("connect/unknown", instead(shell, "Unsupported", ZeroDivisionError)),
    "the age is none": ("connect/live", instead(Updates, "age", property(lambda _: float("inf")))),
    "the age is nothing": ("lost/reset", instead(Updates, "age", property(lambda _: 0.0))),
    "names stay in the lease": ("connect/unsubscribe", instead(Inboxes, "leave", lambda _, __: [])),
    "no renewal": ("renew/short", instead(PushPath, "renew", lambda _: None)),
    "sessions are not resumed": ("lost/resumed", instead(Knowledge, "lowest_revision", lambda _: None)),
    "nobody says hello": ("connect/live", instead(PushPath, "hello", lambda *_: None)),
    "polls go elsewhere": ("lost/polled", instead(posting, "POLL_PATH", "/v1/poll2")),
    "a silent node is trusted": ("lost/silent", instead(PushPath, "_missed", lambda *_: None)),
}


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_mutant_fails_in_its_script(
    name: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    script, break_it = MUTANTS[name]
    monkeypatch.setattr(websocket_module, "running_loop", lambda: "asyncio")
    break_it(monkeypatch)
    with pytest.raises((ScriptFails, BaseExceptionGroup)):
        await play_in_memory(TRACES[script], "json")


# The player ----------------------------------------------------------------------------------------------------------


async def silent(_: Json) -> Json:
    await trio.lowlevel.checkpoint()
    return {}


async def played(*steps: Json, **like: Json) -> None:
    async with trio.open_nursery() as nursery:
        script = Trace({"trace": "x", "like": like}, list(steps))
        await Player(script, Port(), "ws://node", silent, nursery).play()


async def test_a_failure_names_the_line_and_what_was_expected(autojump_clock: MockClock) -> None:
    for steps, said in (
        (
            [{"node": "accept", "within_s": 2}],
            'x, line 2, {"node": "accept", "within_s": 2}: it did not come within 2 s',
        ),
        ([{"client": "next", "handle": "h", "gives": {"change": 1}}], "line 2, .*: change is null"),
        ([{"client": "age", "handle": "h", "below": 1}], "line 2, .*: the age is None"),
    ):
        with pytest.RaisesGroup(pytest.RaisesExc(ScriptFails, match=said)):
            await played(*steps)


async def test_the_command_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert await main(["--what"]) == 2
    assert capsys.readouterr().err == f"{USAGE}\n"


async def test_the_command_runs_an_adapter_in_a_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = SCRIPTS / "connect/older.ndjson"
    broken = tmp_path / "broken.ndjson"
    broken.write_text(kept.read_text("utf-8").replace('"value":"new"}}}', '"value":"other"}}}'), "utf-8")
    adapter = f"{sys.executable} -m softstate.testing.conformance.client.adapter"
    assert await main(["--client", adapter, str(kept), str(broken)]) == 1
    ok, failed = capsys.readouterr().out.splitlines()
    assert ok == "connect/older: ok"
    assert re.fullmatch(r'FAILED connect/older, line 14, .*: change.value is "new"', failed)
