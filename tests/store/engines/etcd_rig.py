"""A real etcd of our own: one member on free loopback ports, its data in a temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from softstate.store.base import KEYS_MAX
from softstate.store.etcd.store import EtcdStore
from tests.kit.engines import missing
from tests.store.engines.rig import WAIT_S, free_port


def need_etcd() -> None:
    """Skip the test when etcd is not installed, unless engines are required."""
    for program in ("etcd", "etcdctl"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed: run .dev/engines")


@dataclass
class EtcdRig:
    """Implements `tests.store.engines.rig.Rig`. `flags` go to etcd, `options` into the URL of the store."""

    folder: Path
    flags: Sequence[str] = ()
    user: str = ""
    options: str = ""
    tls: ssl.SSLContext | None = None
    port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.data = self.folder / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self.scheme = "https" if self.tls else "http"
        self._backups = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"etcd{'s' if self.tls else ''}://{self.user}{self.address}/?{self.options}"

    @property
    def peer(self) -> str:
        return f"http://127.0.0.1:{self.peer_port}"

    async def open(self, *, keys_max: int = KEYS_MAX) -> EtcdStore:
        return await EtcdStore.open(self.url, keys_max=keys_max)

    def run(self) -> EtcdRig:
        """Start the server, and return once it can commit."""
        here = f"{self.scheme}://{self.address}"
        command = ["etcd", "--name=rig", f"--data-dir={self.data}", f"--listen-client-urls={here}"]
        command += [f"--advertise-client-urls={here}", f"--listen-peer-urls={self.peer}"]
        command += [f"--initial-advertise-peer-urls={self.peer}", f"--initial-cluster=rig={self.peer}", *self.flags]
        with (self.folder / "etcd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.until("etcd has a leader", self._leads)
        return self

    def _leads(self) -> bool:
        try:
            return bool(self.call("/v3/maintenance/status", {}).get("leader"))
        except OSError:
            return False

    def until(self, what: str, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not check():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"not within {WAIT_S} s: {what}\n{(self.folder / 'etcd.log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def call(self, path: str, message: Any) -> Any:
        """Make one call of the gateway, as another program would. Raises `OSError`."""
        request = urllib.request.Request(f"{self.scheme}://{self.address}{path}", json.dumps(message).encode())
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S, context=self.tls) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(f"{path}: {error.read().decode()}") from error

    def ctl(self, *arguments: str) -> str:
        """Run etcdctl."""
        done = subprocess.run(
            ["etcdctl", f"--endpoints={self.scheme}://{self.address}", *arguments],
            capture_output=True, text=True, timeout=WAIT_S, env=os.environ | {"ETCDCTL_API": "3"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def start(self) -> None:
        await trio.to_thread.run_sync(self.run)

    async def kill(self) -> None:
        self.thaw()
        await trio.to_thread.run_sync(self.stop)

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        self.until("every thread has stopped", self._stopped)

    def _stopped(self) -> bool:
        assert self.process is not None
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)

    def thaw(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    async def backup(self) -> Path:
        """Take a snapshot, as the manual says."""
        self._backups += 1
        path = self.folder / f"backup-{self._backups}.db"
        await trio.to_thread.run_sync(self.ctl, "snapshot", "save", str(path))
        return path

    async def restore(self, backup: Path) -> None:
        """Restore it with the same name, address and cluster token: nothing in an answer tells it from the original."""

        def replace() -> None:
            self.stop()
            shutil.rmtree(self.data)
            where = [f"--data-dir={self.data}", f"--initial-cluster=rig={self.peer}"]
            where += [f"--initial-advertise-peer-urls={self.peer}", "--name=rig"]
            self.ctl("snapshot", "restore", str(backup), *where)
            self.run()

        await trio.to_thread.run_sync(replace)

    async def copy_files(self) -> Path:
        """Take a backup of the other kind: stop, copy the files, start."""
        self._backups += 1
        path = self.folder / f"files-{self._backups}"

        def copy() -> None:
            self.stop()
            shutil.copytree(self.data, path)
            self.run()

        await trio.to_thread.run_sync(copy)
        return path

    async def put_files_back(self, files: Path) -> None:
        def replace() -> None:
            self.stop()
            shutil.rmtree(self.data)
            shutil.copytree(files, self.data)
            self.run()

        await trio.to_thread.run_sync(replace)

    async def wipe(self) -> None:
        def replace() -> None:
            self.stop()
            shutil.rmtree(self.data)
            self.run()

        await trio.to_thread.run_sync(replace)

    async def refuse_writes(self, *, on: bool) -> None:
        """Raise or lower the alarm NOSPACE, which etcd itself raises when its quota is used up."""

        def alarm() -> None:
            member = self.call("/v3/maintenance/status", {})["header"]["member_id"]
            action = "ACTIVATE" if on else "DEACTIVATE"
            self.call("/v3/maintenance/alarm", {"action": action, "memberID": member, "alarm": "NOSPACE"})

        await trio.to_thread.run_sync(alarm)

    async def publish_directly(self, topic: str, json: str | None) -> None:
        await self.put(f"softstate/inbox/{topic}", (json or "").encode())

    async def put(self, key: str, value: bytes) -> None:
        message = {"key": b64encode(key.encode()).decode(), "value": b64encode(value).decode()}
        await trio.to_thread.run_sync(self.call, "/v3/kv/put", message)

    async def keys(self, prefix: str) -> dict[str, bytes]:
        """Read all that lies below a prefix."""
        return await trio.to_thread.run_sync(self._keys, prefix)

    def _keys(self, prefix: str) -> dict[str, bytes]:
        found = json.loads(self.ctl("get", "--prefix", prefix, "--write-out=json"))
        return {b64decode(kv["key"]).decode(): b64decode(kv.get("value", "")) for kv in found.get("kvs", ())}

    async def aclose(self) -> None:
        await self.kill()


@dataclass
class EtcdBackend:
    """One namespace of a server that many tests share. Its backups are copies of the keys, put back by a script."""

    rig: EtcdRig
    namespace: str

    async def open(self, *, keys_max: int = KEYS_MAX) -> EtcdStore:
        return await EtcdStore.open(f"{self.rig.url}namespace={self.namespace}", keys_max=keys_max)

    async def open_to_read(self) -> EtcdStore:
        return await EtcdStore.open(f"{self.rig.url}namespace={self.namespace}", read_only=True)

    async def snapshot(self) -> dict[str, bytes]:
        return await self.rig.keys(f"{self.namespace}/")

    async def restore(self, snapshot: Any) -> None:
        def put_back() -> None:
            keep = {name.encode(): value for name, value in snapshot.items()}
            now = {name.encode() for name in self.rig._keys(f"{self.namespace}/")}
            ops = [{"request_delete_range": {"key": b64encode(key).decode()}} for key in now - keep.keys()]
            for key, value in keep.items():
                ops.append({"request_put": {"key": b64encode(key).decode(), "value": b64encode(value).decode()}})
            parts = [ops[at : at + 60] for at in range(0, len(ops), 60)]
            self.rig.call("/v3/kv/txn", {"success": [{"request_txn": {"success": part}} for part in parts]})

        await trio.to_thread.run_sync(put_back)
