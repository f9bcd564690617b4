"""Real nodes as processes, and a client that shares no code with softstate.

`running` runs a `softstate serve` process for the length of a block; a `Server` can be killed and started again on the
same port and store. Leases have the default length of a node, so that no test depends on how fast a process starts or
a busy machine runs; a test of leases that end asks for a short one. `ForeignClient` is a client made of the
`websockets` package and PROTOCOL.md. `command` runs one of softstate's. `until` waits for a condition that nothing
announces.
"""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import cbor2
from websockets.sync.client import ClientConnection, connect

WAIT_S = 20.0
"""Limit of any wait in seconds, after which the test fails; nothing sleeps for it."""


def free_port() -> int:
    """Find a port that no process listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(what: str, check: Callable[[], Any], within_s: float = WAIT_S) -> Any:
    """Call `check` until its result is true, and return that; fail the test after `within_s`."""
    deadline = time.monotonic() + within_s
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(0.01)


class Server:
    """One `softstate serve` process. Without a `port` it gets a free one, and keeps that when it is started again."""

    def __init__(self, directory: Path, *, port: int = 0, store: str | None = None, **options: Any) -> None:
        self.directory = directory
        self.port = port
        self.store = store or f"sqlite:{directory / 'softstate.db'}"
        self.options = options
        self.process: subprocess.Popen[str] | None = None
        self.trusts: ssl.SSLContext | None = None
        """The authority that clients trust, if the node speaks TLS."""
        self.line = ""
        self.log = ""
        """The log of the process that ended last."""

    @property
    def http(self) -> str:
        return f"http{'s' if 'tls_cert' in self.options else ''}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"ws{'s' if 'tls_cert' in self.options else ''}://127.0.0.1:{self.port}"

    def command(self, *words: str) -> list[str]:
        flags = {"listen": f"127.0.0.1:{self.port}", "store": self.store, **self.options}
        named = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        return [sys.executable, "-m", "softstate", "serve", *named, *words]

    def start(self, *words: str, **popen: Any) -> Self:
        """Start it, with further words on its command line."""
        self.process = subprocess.Popen(
            self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.directory,
            env=environment(), **popen,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        if not self.line:
            _, errors = self.process.communicate(timeout=WAIT_S)
            raise AssertionError(f"serve did not start: {errors}")
        self.port = listed_port(self.line)
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self._read_log(self.process)
            self.process = None

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        """Keep what the ended process logged. A bug that its bulkhead contained fails the test."""
        _, self.log = process.communicate(timeout=WAIT_S)
        assert re.search(r"\] bug\s", self.log) is None, self.log

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        assert self.process is not None
        self.process.terminate()
        self._read_log(self.process)
        code = self.process.returncode
        self.process = None
        return code

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Make one HTTP request; return status, decoded body and headers (lower case)."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.http + path, data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S, context=self.trusts) as reply:
                return reply.status, _json(reply.read()), {k.lower(): v for k, v in reply.headers.items()}
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _json(error.read()), {k.lower(): v for k, v in error.headers.items()}

    def put(self, topic: str, value: Any) -> int:
        """Publish over HTTP and return the version."""
        status, reply, _ = self.request("PUT", f"/v1/topics/{topic}", value, {"Content-Type": "application/json"})
        assert status == 200, reply
        version: int = reply["version"]
        return version

    def status(self) -> dict[str, Any]:
        """Return the node's own counts of its sessions, names, connections and so on."""
        _, reply, _ = self.request("GET", "/v1/status")
        assert isinstance(reply, dict)
        return reply


def _json(data: bytes) -> Any:
    return json.loads(data) if data else None


def environment() -> dict[str, str]:
    """Return this process's environment without the variables that configure softstate."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SOFTSTATE_")}
    return {**kept, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}


def command(url: str, *words: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a client command against a node, with more variables if any, and check how it ends."""
    done = subprocess.run(
        [sys.executable, "-m", "softstate", *words],
        env=environment() | {"SOFTSTATE_URL": url} | variables,
        capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


@contextlib.contextmanager
def running(directory: Path, **options: Any) -> Iterator[Server]:
    """Run a node for the length of a block; it is killed at the end."""
    server = Server(directory, **options)
    try:
        yield server.start()
    finally:
        server.kill()


class ForeignClient:
    """A client made of the `websockets` package and PROTOCOL.md, and nothing of softstate."""

    def __init__(self, server: Server, codec: str = "json") -> None:
        self.codec = codec
        protocols: list[Any] = [f"softstate.v1.{codec}"]
        self._stack = contextlib.ExitStack()
        self.socket: ClientConnection = self._stack.enter_context(
            connect(
                f"{server.url}/v1/ws",
                subprotocols=protocols,
                open_timeout=WAIT_S,
                close_timeout=1,
                compression=None,
                ssl=server.trusts,
            )
        )
        self.notified = 0

    def send(self, op: str, **fields: Any) -> None:
        self.send_raw({"op": op, **fields})

    def send_raw(self, message: dict[str, Any]) -> None:
        self.socket.send(json.dumps(message) if self.codec == "json" else cbor2.dumps(message))

    def receive(self, timeout: float = WAIT_S) -> dict[str, Any]:
        data = self.socket.recv(timeout=timeout)
        message: dict[str, Any] = json.loads(data) if self.codec == "json" else cbor2.loads(data)  # type: ignore[arg-type]
        assert isinstance(data, str) == (self.codec == "json")
        self.notified += message["op"] == "notify"
        return message

    def expect(self, op: str, **fields: Any) -> dict[str, Any]:
        """Receive one message, and check its op and fields; a `position` may come at any time and is skipped."""
        message = self.receive()
        while message["op"] == "position" != op:
            message = self.receive()
        assert message["op"] == op, message
        for name, value in fields.items():
            assert message.get(name) == value, message
        return message

    def hello(self, **fields: Any) -> dict[str, Any]:
        self.send("hello", **fields)
        return self.expect("welcome")

    def subscribe(self, *names: str, **fields: Any) -> dict[str, Any]:
        """Subscribe without a known version, and return the answer."""
        topics = {name: 0 for name in names if not name.endswith("/")}
        prefixes = {name: 0 for name in names if name.endswith("/")}
        self.send("subscribe", id=1, topics=topics, prefixes=prefixes, **fields)
        return self.expect("subscribed", id=1)

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def digest(*names: str) -> str:
    """Compute the digest as P-REN-1 describes it, independently of the product."""
    total = sum(int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) for name in names)
    return f"{total % 2**64:016x}"


def listed_port(line: str) -> int:
    """Read the port from the line that `serve` prints."""
    found = re.search(r"127\.0\.0\.1:(\d+)", line)
    assert found is not None, line
    return int(found[1])
