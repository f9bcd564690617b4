"""SIGTERM drains; starting is refused, by name, when it cannot work."""

import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.kit.processes import WAIT_S, ForeignClient, Server, environment, running


def run(server: Server) -> "subprocess.CompletedProcess[str]":
    """Run a node that must refuse to start."""
    return subprocess.run(
        server.command(), cwd=server.directory, env=environment(), capture_output=True, text=True, timeout=WAIT_S
    )


def test_sigterm_says_goodbye_and_finishes_what_is_in_flight(tmp_path: Path) -> None:
    with running(tmp_path) as server, ForeignClient(server) as peer:
        peer.hello()
        for number in range(200):
            peer.send("publish", id=number, topic=f"t/{number % 3}", value=number)
        peer.expect("published", id=0)
        server.signal(signal.SIGTERM)
        answered = 1
        message = peer.receive()
        while message["op"] == "published":
            answered += 1
            message = peer.receive()
        assert message["op"] == "bye"
        assert message["reason"] == "draining"
        assert message["retry_ms"] > 0
        assert server.process is not None
        assert server.process.wait(timeout=WAIT_S) == 0
        server.kill()
        with running(tmp_path, port=server.port) as again:
            newest = max(again.request("GET", f"/v1/topics/t/{n}")[1] for n in range(3))
            assert newest >= answered - 1


def test_sigterm_ends_idle_http_connections_and_held_polls(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        idle = subprocess.Popen(
            ["curl", "-s", "-i", f"{server.http}/v1/topics/absent?wait_ms=20000"], stdout=subprocess.PIPE, text=True
        )
        server.put("x", 1)
        assert server.stop() == 0
        output, _ = idle.communicate(timeout=WAIT_S)
        assert output == "" or "404" in output


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"listen": "0.0.0.0:0"}, "--allow-anonymous"),
        ({"listen": "nowhere"}, "listen"),
        ({"ttl": "soon"}, "ttl"),
        ({"ttl": "1ms"}, "ttl"),
        ({"role": "king"}, "role"),
        ({"store": "mysql:x"}, "sqlite"),
        ({"colour": "red"}, "--colour"),
    ],
)
def test_an_option_that_cannot_work_is_refused_by_name(tmp_path: Path, options: dict[str, str], names: str) -> None:
    server = Server(tmp_path)
    server.options.update(options)
    refused = run(server)
    assert refused.returncode != 0
    assert names in refused.stderr + refused.stdout
    assert "Traceback" not in refused.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        second = subprocess.run(
            server.command(), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=WAIT_S
        )
        assert second.returncode != 0
        assert str(server.port) in second.stderr
        assert "Traceback" not in second.stderr


@pytest.mark.parametrize("kind", ["text", "foreign", "directory", "unwritable"])
def test_a_store_that_is_not_ours_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "other.db"
    if kind == "text":
        path.write_text("this is not a database\n" * 50)
    elif kind == "foreign":
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE customers (name)")
        connection.close()
    elif kind == "directory":
        path.mkdir()
    else:
        path = Path("/proc/softstate.db")
    before = path.read_bytes() if path.is_file() else b""
    server = Server(tmp_path, store=f"sqlite:{path}")
    refused = run(server)
    assert refused.returncode != 0
    assert str(path) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (path.read_bytes() if path.is_file() else b"") == before
