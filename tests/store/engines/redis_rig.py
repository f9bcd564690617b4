"""A Redis server of a test's own."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from softstate.store import KEYS_MAX, open_store
from softstate.store.base import Store
from softstate.store.redis.store import RedisStore
from tests.kit.engines import missing
from tests.store.engines.cable import Cable
from tests.store.engines.rig import WAIT_S, folder_for, free_port

DURABLE = {"appendonly": "yes", "appendfsync": "always", "save": "", "repl-diskless-sync-delay": "0"}


def redis_server() -> str:
    """Return the server's program; skip the test where there is none, unless engines are required."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        missing("redis-server is not installed: run .dev/engines")
    return found


class RedisRig:
    """A server with its data in a folder. Implements `tests.store.engines.rig.Rig` and
    `softstate.testing.Rewindable`."""

    def __init__(self, folder: Path, port: int | None = None, **settings: str) -> None:
        self.program = redis_server()
        self.folder = folder
        self.port = port or free_port()
        self.settings = {**DURABLE, **settings}
        self.password = self.settings.get("requirepass")
        self.namespace = "softstate"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        user = f":{self.password}@" if self.password else ""
        return f"redis://{user}127.0.0.1:{self.port}/0?namespace={self.namespace}"

    async def open(self, *, keys_max: int = KEYS_MAX) -> RedisStore:
        store = await open_store(self.url, keys_max=keys_max)
        assert isinstance(store, RedisStore)
        return store

    async def start(self) -> None:
        given = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder), **self.settings}
        arguments = [part for name, value in given.items() for part in (f"--{name}", *(value.split() or [""]))]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self.program, *arguments], stdout=log, stderr=log)  # noqa: ASYNC220
        with trio.fail_after(WAIT_S):
            while not await self._answers():
                assert self._process.poll() is None, (self.folder / "log").read_text()
                await trio.sleep(0.01)

    async def _answers(self) -> bool:
        try:
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        except OSError:
            return False
        async with stream:
            await stream.send_all(b"PING\r\n")
            answer = await stream.receive_some(100)
        # NOAUTH, or a refusal in plain text of what must be TLS, is an answer too; LOADING is none.
        return bool(answer) and not answer.startswith(b"-LOADING")

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await trio.to_thread.run_sync(self._process.wait)
            self._process = None

    async def stop(self) -> None:
        """Stop the server in good order."""
        assert self._process is not None
        self._process.terminate()
        await trio.to_thread.run_sync(self._process.wait)
        self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def backup(self) -> Path:
        """Copy the folder. What is acknowledged is in it, since the log is synced before any answer."""
        copy = self.folder.with_name(f"{self.folder.name}-backup-{trio.current_time()}")
        shutil.copytree(self.folder, copy)
        return copy

    async def restore(self, backup: Path) -> None:
        await self.kill()
        shutil.rmtree(self.folder)
        shutil.copytree(backup, self.folder)
        await self.start()

    async def wipe(self) -> None:
        await self.kill()
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        await self.start()

    async def refuse_writes(self, *, on: bool) -> None:
        """Fill the memory, as far as Redis is concerned."""
        await self.ask("CONFIG", "SET", "maxmemory", "1" if on else "0")

    async def move_head(self, head: int) -> None:
        """Put the head elsewhere, with its sum, as if that much had been committed."""
        script = (
            "local m = redis.call('HMGET', KEYS[1], 'image', 'epoch', 'floor', 'lineage', 'start') local fed = ''"
            " for _, part in ipairs { '2', m[1], m[2], ARGV[1], m[3], m[4], m[5] } do"
            " fed = fed .. struct.pack('>I4', #part) .. part end"
            " return redis.call('HSET', KEYS[1], 'head', ARGV[1], 'sum', redis.sha1hex(fed):sub(1, 16))"
        )
        await self.ask("EVAL", script, 1, f"{{{self.namespace}}}:meta", head)

    async def publish_directly(self, topic: str, json: str | None) -> None:
        if json is None:
            await self.ask("FCALL", "softstate_delete", 1, self.namespace, topic)
        else:
            await self.ask("FCALL", "softstate_publish", 1, self.namespace, topic, json)

    async def ask(self, *command: str | bytes | int) -> bytes:
        """Send a command as any program would; return the answer as it is on the wire. Raises `Refused`."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            if self.password:
                await send(stream, "AUTH", self.password)
            return await send(stream, *command)

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            await self.kill()


class Refused(Exception):
    """Redis answered with an error."""


async def send(stream: trio.SocketStream, *command: str | bytes | int) -> bytes:
    """Send a command, and return what is on the wire of its answer. Raises `Refused`."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    await stream.send_all(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
    answer = b""
    with trio.fail_after(WAIT_S):
        while not answer.endswith(b"\r\n") or (answer.startswith(b"$") and answer.count(b"\r\n") < 2):
            more = await stream.receive_some(65536)
            if not more:
                break
            answer += more
    if answer.startswith(b"-"):
        raise Refused(answer.decode().strip())
    return answer


@asynccontextmanager
async def redis_rig(
    tmp_path: Path, name: str = "redis", port: int | None = None, **settings: str
) -> AsyncIterator[RedisRig]:
    """Run a server for the length of a block."""
    rig = RedisRig(folder_for(tmp_path, name), port, **settings)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.aclose()


@asynccontextmanager
async def opened(rig: RedisRig) -> AsyncIterator[RedisStore]:
    """Open a store for the length of a block."""
    store = await rig.open()
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def opened_over(cable: Cable) -> AsyncIterator[Store]:
    """Open one that is connected over a cable."""
    store = await open_store(f"redis://127.0.0.1:{cable.port}")
    try:
        yield store
    finally:
        await store.aclose()
