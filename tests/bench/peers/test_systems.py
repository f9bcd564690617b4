"""The systems that softstate is measured beside: found or left out with advice, configured, started again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.peers.systems import MAKERS, OURS, Places, go_version, systems
from softstate.cli.processes.child import free_port


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("NPM_FOLDER", raising=False)
    monkeypatch.setattr("bench.measure.servers.SYSTEM_PATHS", "/nowhere")


def _program(folder: Path, name: str, prints: str = "") -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\necho '{prints}'\n")
    file.chmod(0o755)


@pytest.mark.usefixtures("nothing_installed")
def test_a_system_that_is_not_installed_is_left_out_with_a_line_that_says_how_to_get_it() -> None:
    found, notes = systems(Places())
    assert OURS in found
    assert [note.split(" was left out: ")[0] for note in notes] == [name for name in MAKERS if name not in found]
    assert any("go install github.com/centrifugal/centrifugo" in note for note in notes)
    assert systems(Places(), ["Redis"])[1] == [
        "Redis was left out: redis-server is not installed (apt install redis-server)"
    ]


@pytest.mark.usefixtures("nothing_installed")
def test_packages_of_npm_are_looked_for_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, "node", "v20.1.0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    _, [note] = systems(Places(npm=tmp_path), ["ws"])
    assert note == (
        f"ws was left out: ws of npm is not in {tmp_path}"
        " (npm install --prefix FOLDER socket.io@4.8 ws@8 bufferutil; then --npm FOLDER)"
    )
    for package, version in (("ws", "8.1.0"), ("bufferutil", "4.0.0")):
        (tmp_path / "node_modules" / package).mkdir(parents=True)
        (tmp_path / "node_modules" / package / "package.json").write_text(json.dumps({"version": version}))
    found, _ = systems(Places(npm=tmp_path), ["ws"])
    assert found["ws"].version == "ws 8.1.0, bufferutil 4.0.0, Node.js 20.1.0"


def test_versions_are_those_of_the_programs(tmp_path: Path) -> None:
    _program(tmp_path, "nats-server", "nats-server: v2.9.10")
    _, [note] = systems(Places(tmp_path), ["NATS KV"])
    assert "is older than 2.10" in note
    _program(tmp_path, "nats-server", "nats-server: v2.15.3")
    found, _ = systems(Places(tmp_path), ["NATS KV", "NATS KV (2m sync)"])
    for name, interval in (("NATS KV", "always"), ("NATS KV (2m sync)", "2m")):
        [process] = found[name].processes(4222, tmp_path, True)
        assert f"sync_interval: {interval} " in Path(process.command[2]).read_text()
        assert interval in found[name].durable
        assert found[name].version == "2.15.3"
    (tmp_path / "built").write_bytes(b"\0path\texample.org/it\nmod\texample.org/it/v6\tv6.9.1\th1:abc=\n")
    assert go_version(str(tmp_path / "built"), "example.org/it/v6") == "6.9.1"
    assert go_version(str(tmp_path / "built"), "example.org/other") == "unknown"


def test_centrifugo_with_redis_is_two_processes_that_all_count(tmp_path: Path) -> None:
    _program(tmp_path, "centrifugo")
    found, notes = systems(Places(tmp_path), ["Centrifugo + Redis"])
    if notes:
        pytest.skip(notes[0])
    store, server = found["Centrifugo + Redis"].processes(8000, tmp_path, False)
    assert store.command[store.command.index("--appendfsync") + 1] == "always"
    config = json.loads(Path(server.command[2]).read_text())
    assert config["engine"]["redis"]["address"] == f"redis://127.0.0.1:{store.port}"
    assert config["client"]["ping_interval"] == "1h"
    [server] = systems(Places(tmp_path), ["Centrifugo"])[0]["Centrifugo"].processes(8000, tmp_path, True)
    assert "ping_interval" not in json.loads(Path(server.command[2]).read_text())["client"]


def test_a_system_can_be_killed_and_started_again_in_its_folder(tmp_path: Path) -> None:
    ours, port = systems(Places(), [OURS])[0][OURS], free_port()
    with ours.running(port, tmp_path) as up:
        assert up.cpu_s() > 0
        assert up.resident_bytes() > 1_000_000
        up.kill()
        up.kill()
        with ours.running(port, tmp_path) as again:
            assert again.servers[-1].pid != up.servers[-1].pid
            lineage = again.servers[-1].get("/readyz")
    assert lineage
