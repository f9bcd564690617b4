"""The drill's faults: each breaks what it should, and is ended in every case."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio

from softstate.cli.commands.drill.faults import commanded, inject, restarted_by
from softstate.cli.commands.drill.ledger import Ledger
from softstate.cli.commands.drill.locking import locked
from softstate.cli.commands.drill.relay import Relay
from softstate.cli.exit_codes import Failure
from softstate.cli.processes.child import Lines


@pytest.fixture
async def relay(nursery: trio.Nursery) -> Relay:
    """Return a relay to a server that echoes."""

    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, echo, [listener])
    relay = Relay("127.0.0.1", listener.socket.getsockname()[1])
    await nursery.start(relay.serve)
    return relay


async def test_a_relay_passes_bytes_and_ends(relay: Relay) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", relay.port) as stream:
        await stream.send_all(b"ping")
        assert await stream.receive_some() == b"ping"
        await stream.send_eof()
        assert await stream.receive_some() == b""


async def test_a_stalled_relay_is_silent_to_old_and_new_connections_and_then_resets(relay: Relay) -> None:
    old = await trio.open_tcp_stream("127.0.0.1", relay.port)
    await old.send_all(b"ping")
    assert await old.receive_some() == b"ping"
    relay.stall()
    new = await trio.open_tcp_stream("127.0.0.1", relay.port)
    for stream in (old, new):
        await stream.send_all(b"ping")
        with trio.move_on_after(0.1) as scope:  # long enough for a relay that passes bytes on to fail this test
            await stream.receive_some()
        assert scope.cancelled_caught
    relay.reset()
    with pytest.raises(trio.BrokenResourceError):
        await old.receive_some()
    async with await trio.open_tcp_stream("127.0.0.1", relay.port) as after:
        await after.send_all(b"pong")
        assert await after.receive_some() == b"pong"
    await old.aclose()
    await new.aclose()


async def test_a_locked_store_can_be_neither_read_nor_written(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    code = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
        "c.execute('pragma journal_mode = wal'); c.execute('create table t (x)')\n"
        "print('open', flush=True)\n"
        "for line in sys.stdin:\n"
        "    try: print(c.execute(line).fetchall(), flush=True)\n"
        "    except sqlite3.OperationalError as error: print(error, flush=True)\n"
    )
    pipe = subprocess.PIPE
    other = await trio.lowlevel.open_process([sys.executable, "-c", code, str(path)], stdin=pipe, stdout=pipe)
    assert other.stdin is not None
    assert other.stdout is not None
    async with other.stdin, other.stdout:
        said = Lines(other.stdout)
        assert await anext(said) == "open"
        for statement, answer in ((b"insert into t values (1)\n", "[]"), (b"select x from t\n", "[(1,)]")):
            async with locked(path):
                await other.stdin.send_all(statement)
                with trio.move_on_after(0.1) as scope:  # SQLite tries for about 10 s; unlocked, it answers at once
                    await anext(said)
                assert scope.cancelled_caught
            assert await anext(said) == answer
        await other.stdin.aclose()
        assert await other.wait() == 0


async def test_the_start_command_is_run_whatever_happens(tmp_path: Path) -> None:
    killed, started = tmp_path / "killed", tmp_path / "started"
    breaking = commanded(f"touch {killed}", f"touch {started}")
    with trio.move_on_after(60) as scope:
        async with breaking():
            assert killed.exists()
            assert not started.exists()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert started.exists()


async def test_a_command_that_fails_is_named_and_its_exit_code_told(tmp_path: Path) -> None:
    ledger = Ledger([])
    started = tmp_path / "started"
    with pytest.raises(Failure, match="--kill-command ended with exit code 3: exit 3"):
        await inject(commanded("exit 3", f"touch {started}"), 0.0, ledger)
    assert started.exists()
    with pytest.raises(Failure, match="--start-command ended with exit code 4"):
        await inject(commanded("true", "exit 4"), 0.0, ledger)
    with pytest.raises(Failure, match="--kill-command ended with exit code 5"):
        await inject(restarted_by("exit 5"), 0.0, ledger)
