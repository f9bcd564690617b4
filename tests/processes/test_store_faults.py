"""The database swapped, restored from a backup, or out of room, under a running node."""

import os
import resource
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.kit.processes import ForeignClient, Server, running, until
from tests.processes.test_workers import workers_of


def backup(server: Server, to: Path) -> None:
    """Take a consistent copy of the live database."""
    source = sqlite3.connect(server.store.removeprefix("sqlite:"))
    target = sqlite3.connect(to)
    with target:
        source.backup(target)
    source.close()
    target.close()


def swap(server: Server, file: Path) -> None:
    """Put another file in place of the database, as a restore by rename does."""
    path = Path(server.store.removeprefix("sqlite:"))
    new = path.with_suffix(".new")
    shutil.copy(file, new)
    for leftover in ("-wal", "-shm"):
        path.with_name(path.name + leftover).unlink(missing_ok=True)
    new.rename(path)


def restore_in_place(server: Server, file: Path) -> None:
    """Restore with SQLite's own means, into the same file."""
    source = sqlite3.connect(file)
    target = sqlite3.connect(server.store.removeprefix("sqlite:"), timeout=20)
    with target:
        source.backup(target)
    source.close()
    target.close()


def farewell(peer: ForeignClient) -> str:
    """Read to the end of a connection, and return the reason of its bye."""
    reason = ""
    with pytest.raises(ConnectionClosed):
        while True:
            message = peer.receive()
            reason = message.get("reason", reason)
    return reason


@pytest.mark.parametrize("restore", [swap, restore_in_place])
@pytest.mark.parametrize("advance", [0, 30])
def test_a_restored_backup_resets_the_clients_that_saw_more(tmp_path: Path, restore: object, advance: int) -> None:
    assert callable(restore)
    with running(tmp_path) as server:
        server.put("kept", "old")
        saved = tmp_path / "backup.db"
        backup(server, saved)
        with ForeignClient(server) as peer:
            peer.hello()
            peer.subscribe("kept", "lost")
            server.put("kept", "new")
            server.put("lost", "value")
            seen = peer.expect("notify"), peer.expect("notify")
            position = {**peer_position(server), "revision": seen[1]["version"]}
            restore(server, saved)
            # Without a publish the node must notice by itself.
            assert farewell(peer) == "rewound"
        until("the node to be ready", lambda: server.request("GET", "/readyz?store")[0] == 200)
        for number in range(advance):
            server.put("advanced", number)
        with ForeignClient(server) as peer:
            welcome = peer.hello(position=position)
            assert welcome.get("reset") is True
            answer = peer.subscribe("kept", "lost")
            assert [(change["topic"], change["value"]) for change in answer["changes"]] == [("kept", "old")]
        assert server.status()["store_rewinds"] == 1


def peer_position(server: Server) -> dict[str, object]:
    """Return the store's position as a map."""
    epoch, lineage, revision = server.status()["position"].split(".")
    return {"epoch": epoch, "lineage": lineage, "revision": int(revision)}


def test_a_client_that_saw_nothing_newer_than_the_backup_survives_the_restore(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.put("a", 1)
        position = peer_position(server)
        server.put("a", 2)
        saved = tmp_path / "backup.db"
        backup(server, saved)
        server.put("a", 3)
        server.kill()
        swap(server, saved)
        server.start()
        with ForeignClient(server) as peer:
            assert "reset" not in peer.hello(position=position)
            assert peer.subscribe("a")["changes"][0]["value"] == 2


def test_a_full_disk_acknowledges_nothing_and_leases_stay(tmp_path: Path) -> None:
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    server = Server(tmp_path, ttl="30s")
    try:
        server.start(preexec_fn=small_files)
        with ForeignClient(server) as peer:
            peer.hello()
            peer.subscribe("disk/")
            acknowledged = 0
            for number in range(200):
                status, reply, headers = server.request(
                    "PUT", f"/v1/topics/disk/{number}", "x" * 50_000, {"Content-Type": "application/json"}
                )
                if status != 200:
                    break
                acknowledged += 1
            assert (status, reply["code"]) == (503, "unavailable")
            assert "retry-after" in headers
            for _ in range(20):
                server.request("PUT", "/v1/topics/disk/more", "x" * 50_000, {"Content-Type": "application/json"})
            ready, because, _ = server.request("GET", "/readyz?store")
            assert (ready, because["message"].partition(":")[0]) == (503, "publishes fail")
            for number in range(acknowledged):
                peer.expect("notify", topic=f"disk/{number}")
        server.kill()
        assert server.log.count("publishes fail") == 1
        server.start()
        for number in range(acknowledged):
            assert server.request("GET", f"/v1/topics/disk/{number}")[0] == 200
        assert server.request("GET", f"/v1/topics/disk/{acknowledged + 1}")[0] == 404
    finally:
        server.kill()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_that_is_gone_is_down_until_it_is_back_and_no_client_is_reset(tmp_path: Path, workers: int) -> None:
    """A file that was moved, or whose file system is not mounted, is no empty store, not to a worker that starts."""
    folder, away = tmp_path / "data", tmp_path / "away"
    folder.mkdir()
    with running(tmp_path, store=f"sqlite:{folder}/softstate.db", workers=workers) as server:
        version = server.put("t", 1)
        with ForeignClient(server) as peer:
            peer.hello()
            peer.subscribe("t")
            folder.rename(away)
            folder.mkdir()
            until("the node sees it", lambda: server.request("GET", "/readyz?store")[0] == 503)
            assert server.request("PUT", "/v1/topics/t", 2, {"Content-Type": "application/json"})[0] == 503
            if workers > 1:
                (worker, *_) = workers_of(server)
                os.kill(worker, signal.SIGKILL)
                assert server.process is not None
                errors = server.process.stderr
                assert errors is not None
                until("it was started again", lambda: "there is no file" in errors.readline())
            assert list(folder.iterdir()) == []
            folder.rmdir()
            away.rename(folder)
            until("it is back", lambda: server.request("GET", "/readyz?store")[0] == 200)
            if workers == 1:
                assert server.put("t", 2) == version + 1
                peer.expect("notify", topic="t", value=2)
            else:
                until("it goes on", lambda: server.request("GET", "/v1/topics/t")[1] == 1)
