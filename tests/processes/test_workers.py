"""`softstate serve --workers`: several nodes on one port, killed, stopped and left alone."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.kit.processes import WAIT_S, ForeignClient, Server, environment, running, until

CONNECTIONS_MAX = 200
"""Tries to reach a certain one of two workers: all fail once in 2**200."""


def workers_of(server: Server) -> list[int]:
    """List the living processes that the supervisor has started."""
    assert server.process is not None
    lists = [task / "children" for task in Path(f"/proc/{server.process.pid}/task").iterdir()]
    return [int(child) for found in lists for child in found.read_text().split() if alive(int(child))]


def both_of(server: Server) -> list[int]:
    """List the two workers; fail if there are not two."""
    workers = workers_of(server)
    assert len(workers) == 2
    return workers


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def peers(server: Server) -> Iterator[tuple[ForeignClient, ForeignClient]]:
    """Connect a client to each of two workers."""
    with contextlib.ExitStack() as stack:
        found: dict[str, ForeignClient] = {}
        for _ in range(CONNECTIONS_MAX):
            peer = stack.enter_context(ForeignClient(server))
            found.setdefault(peer.hello()["node"], peer)
            if len(found) == 2:
                break
        one, other = found.values()
        yield one, other


def refusal(server: Server) -> str:
    """Run a server that must refuse to start, and return its standard error."""
    refused = subprocess.run(
        server.command(), cwd=server.directory, env=environment(), capture_output=True, text=True, timeout=WAIT_S
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    return refused.stderr


def test_a_change_published_through_one_worker_is_pushed_by_the_other(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        assert f":{server.port} (role all, 2 workers); store sqlite:" in server.line
        both_of(server)
        with peers(server) as (one, other):
            for number, (publisher, subscriber) in enumerate(((one, other), (other, one))):
                subscriber.subscribe(f"t/{number}")
                publisher.send("publish", id=2, topic=f"t/{number}", value=number)
                version = publisher.expect("published", id=2)["version"]
                subscriber.expect("notify", topic=f"t/{number}", version=version, value=number)
        answers = {server.request("GET", "/v1/topics/t/0", headers={})[1] for _ in range(20)}
        assert answers == {0}, "every worker answers every poll"
        assert len({server.status()["node"] for _ in range(CONNECTIONS_MAX)}) == 2
        with urllib.request.urlopen(f"{server.http}/metrics", timeout=WAIT_S) as reply:
            text = reply.read().decode()
        for worker in (1, 2):
            assert f'softstate_worker_up{{worker="{worker}"}} 1.0\n' in text
            assert f'softstate_sessions{{worker="{worker}"}} ' in text


def test_port_0_is_one_port_for_all(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        assert len({server.status()["node"] for _ in range(CONNECTIONS_MAX)}) == 2


def test_a_killed_worker_is_started_again_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        for turn in range(3):
            before = both_of(server)
            victim = before[turn % 2]
            acknowledged = 0
            for number in range(60):
                if number == 20 + 7 * turn:
                    os.kill(victim, signal.SIGKILL)
                # A connection that the victim had accepted, or was about to, breaks: that publish was not acknowledged.
                with contextlib.suppress(urllib.error.URLError, ConnectionError, HTTPException):
                    server.put(f"crash/{turn}", number)
                    acknowledged = number
            until("a new worker", lambda before=before: len(set(workers_of(server)) - set(before)) == 1)  # type: ignore[misc]
            assert before[1 - turn % 2] in workers_of(server), "the other worker kept running"
            assert acknowledged >= 50
            assert server.request("GET", f"/v1/topics/crash/{turn}")[1] >= acknowledged
            until("both to serve", lambda: len({server.status()["node"] for _ in range(20)}) == 2)
        assert server.stop() == 0


@pytest.mark.parametrize("to_all", [False, True], ids=["supervisor", "all processes, as systemd does"])
def test_sigterm_drains_every_worker(tmp_path: Path, to_all: bool) -> None:
    with running(tmp_path, workers=2) as server, peers(server) as (one, other):
        workers = both_of(server)
        server.signal(signal.SIGTERM)
        for worker in workers if to_all else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGTERM)
        for peer in (one, other):
            assert peer.expect("bye")["reason"] == "draining"
        assert server.process is not None
        assert server.process.wait(timeout=WAIT_S) == 0
        assert not any(map(alive, workers))


def test_a_second_signal_ends_even_workers_that_are_stuck(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        workers = both_of(server)
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGINT)
        assert server.process is not None
        assert server.process.wait(timeout=WAIT_S) == 130
        assert not any(map(alive, workers))


def test_kill_9_of_the_supervisor_ends_the_workers(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        workers = both_of(server)
        with peers(server) as (one, other):
            server.kill()
            for peer in (one, other):
                assert peer.expect("bye")["reason"] == "draining"
        until("the workers to end", lambda: not any(map(alive, workers)))
        with running(tmp_path, port=server.port, workers=2) as again:
            assert again.status()["role"] == "all"


def test_no_two_servers_share_a_port(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        for workers in (2, 1):
            assert str(server.port) in refusal(Server(tmp_path, port=server.port, workers=workers))
        both_of(server)
    with running(tmp_path) as single:
        assert str(single.port) in refusal(Server(tmp_path, port=single.port, workers=2))
        assert single.put("t", 1) > 0


def test_a_store_that_is_not_ours_is_refused_once(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE customers (name)")
    connection.close()
    assert "other.db" in refusal(Server(tmp_path, store=f"sqlite:{tmp_path / 'other.db'}", workers=2))


def test_a_worker_that_cannot_start_is_retried_at_growing_intervals(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        assert server.process is not None
        assert server.process.stderr is not None
        store, aside = tmp_path / "softstate.db", tmp_path / "aside.db"
        victim = both_of(server)[0]
        (tmp_path / "text").write_text("this is not a database\n" * 50)
        store.rename(aside)
        (tmp_path / "text").rename(store)
        os.kill(victim, signal.SIGKILL)
        lines = []
        for pause in ("0.1", "0.2", "0.4"):
            line = next(line for line in server.process.stderr if "worker ended" in line and "worker=" in line)
            assert f"again_in_s={pause}" in line
            lines.append(line)
        assert "SIGKILL" in lines[0]
        assert "softstate.db" in lines[1], "the line names the cause"
        aside.rename(store)
        assert next(line for line in server.process.stderr if "worker serves again" in line)
