"""Other systems for `bench recovery`, each as `bench.peers.systems` starts it, with clients of `bench.load.peers`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.load.peer_protocols import PROTOCOLS
from bench.peers.systems import Places, System as Peer, systems
from bench.speed.recovery.crash import Herd, System

KEYS = {"Centrifugo": "centrifugo", "NATS KV": "nats"}
"""Systems whose clients there are, and the names of their protocols."""


def peer_systems(folder: Path | None) -> tuple[dict[str, System], list[str]]:
    """Return the systems that are installed, by name, and notes about the others."""
    found, notes = systems(Places(folder), tuple(KEYS))
    return {name: _system(peer, KEYS[name]) for name, peer in found.items()}, notes


def command_of(peer: Peer) -> Callable[[int, Path, Herd], Sequence[str]]:
    """Return what makes the command line of a system that is one process, from a port and a folder for files."""

    def command(port: int, home: Path, _herd: Herd) -> Sequence[str]:
        (process,) = peer.processes(port, home, True)
        return process.command

    return command


def _system(peer: Peer, key: str) -> System:
    return System(
        command_of(peer),
        load="bench.load.peers",
        options={"system": key},
        publishing=PROTOCOLS[key]().publishing,
        own=False,
    )
