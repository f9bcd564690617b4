"""Clients of another system, with a server that says what NATS says, dies, and comes back."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bench.load.peers import Peers
from bench.load.process import LoadFailed
from bench.speed.recovery.crash import Herd
from bench.speed.recovery.peers import peer_systems


class Server:
    """Answers requests for streams and consumers, and sends each watcher a value that it made when it was asked."""

    def __init__(self, port: int = 0, says: bytes = b"{}") -> None:
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.says = says
        self.talks: list[socket.socket] = []
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                talk = self.listener.accept()[0]
            except OSError:
                return
            self.talks.append(talk)
            self.threads.append(threading.Thread(target=self._answer, args=(talk,)))
            self.threads[-1].start()

    def _answer(self, talk: socket.socket) -> None:
        try:
            asked = talk.recv(65_536)
            talk.sendall(b"INFO {}\r\nMSG a 2 %d\r\n%s\r\n" % (len(self.says), self.says))
            if b"CONSUMER" in asked:
                value = b"%d" % (time.monotonic() * 1e6)
                talk.sendall(b"MSG b 1 %d\r\n%s\r\n" % (len(value), value))
            talk.recv(1)
        except OSError:
            return

    def end(self) -> None:
        """Break all connections."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.threads[0].join()
        for talk in self.talks:
            with suppress(OSError):
                talk.shutdown(socket.SHUT_RDWR)
            talk.close()
        for thread in self.threads:
            thread.join()


def test_clients_come_back_and_are_fresh() -> None:
    server, peers = Server(), Peers()
    opened = peers.open(server.port, clients=5, system="nats", seed=1)
    assert opened["open_s"] > 0
    assert peers.go_on(0.05) == {"spread_s": 0.0, "live": 5}
    servers: list[Server] = []

    def restart() -> None:
        server.end()
        time.sleep(0.2)
        servers.append(Server(server.port))

    thread = threading.Thread(target=restart)
    thread.start()
    answer = peers.crash(0.0, 30.0, freshness=True)
    thread.join()
    servers[0].end()
    peers.close()
    assert len(answer["back_s"]) == len(answer["fresh_s"]) == 5
    assert all(2.0 <= at < 10 for at in answer["back_s"])
    assert answer["attempts"] == 5 + answer["refused"]
    assert answer["course"][-1][1:4] == (5, 5, answer["attempts"])


def test_a_server_that_refuses_ends_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.peers.PREPARE_S_MAX", 0.0)
    server, peers = Server(says=b'{"error":{"code":503}}'), Peers()
    with pytest.raises(LoadFailed, match="the server did not take the preparation"):
        peers.open(server.port, clients=1, system="nats", seed=1)
    peers.close()
    server.end()


def _program(folder: Path, name: str, prints: str = "") -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\necho {prints}\n")
    file.chmod(0o755)


def test_systems_are_found_in_the_folder_and_others_are_left_out_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("bench.measure.servers.SYSTEM_PATHS", "/nowhere")
    systems, notes = peer_systems(None)
    assert systems == {}
    assert [note.split(" was left out: ")[0] for note in notes] == ["Centrifugo", "NATS KV"]
    assert "go install github.com/nats-io/nats-server/v2@latest" in notes[1]
    _program(tmp_path, "centrifugo")
    _program(tmp_path, "nats-server", "nats-server: v2.9.10")
    systems, notes = peer_systems(tmp_path)
    assert list(systems) == ["Centrifugo"]
    assert "is older than 2.10" in notes[0]
    _program(tmp_path, "nats-server", "nats-server: v2.10.0")
    systems, notes = peer_systems(tmp_path)
    assert (list(systems), notes) == (["Centrifugo", "NATS KV"], [])
    command = systems["NATS KV"].command(4222, tmp_path, Herd(1))
    assert command[:2] == [str(tmp_path / "nats-server"), "-c"]
    assert "sync_interval: always" in Path(command[2]).read_text()
    assert '"port": "8000"' in Path(systems["Centrifugo"].command(8000, tmp_path, Herd(1))[2]).read_text()
