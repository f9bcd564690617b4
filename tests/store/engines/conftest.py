"""Engines for the tests here. Which one it is, says the parameter `engine`, or else the name of the test's file.

`rig` is a server of a test's own, and `server` one that all tests of a file share, each with a `backend` of its own.
`tests.places` tells by the same names which tests run one after the other.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.places import ENGINES
from tests.store.engines.etcd_rig import EtcdBackend, EtcdRig, need_etcd
from tests.store.engines.postgres_rig import DATABASE, PostgresBackend, PostgresRig, PostgresServer, running_server
from tests.store.engines.redis_rig import RedisRig
from tests.store.engines.rig import Rig, folder_for
from tests.store.engines.sqlite_rig import SqliteRig


def _etcd(folder: Path) -> EtcdRig:
    need_etcd()
    return EtcdRig(folder)


_numbers = itertools.count()
_RIGS: dict[str, Callable[[Path], Rig]] = {"redis": RedisRig, "etcd": _etcd, "sqlite": SqliteRig}


def _engine_of(request: pytest.FixtureRequest) -> str:
    """Return the engine that the test's file is named after, as ``test_redis_faults.py`` is."""
    return next(engine for engine in ENGINES if request.path.name.startswith(f"test_{engine}_"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresRig]:
    """One server for all tests, since to make one takes seconds."""
    with PostgresRig.running() as rig:
        yield rig


@pytest.fixture(scope="module")
def _private_server() -> Iterator[PostgresRig]:
    with PostgresRig.running() as rig:
        yield rig


@pytest.fixture
async def private_postgres(_private_server: PostgresRig) -> AsyncIterator[PostgresRig]:
    """A running server of the file's own, without a store: what an earlier test did to it does not matter."""
    rig = _private_server
    rig.server.execute(f"DROP SCHEMA IF EXISTS {rig.schema} CASCADE", database=DATABASE)
    yield rig
    await rig.close_stores()
    rig.opened.clear()


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """The engine of the test, without anything of softstate's."""
    name: str = getattr(request, "param", "") or _engine_of(request)
    if name != "postgres":
        return _RIGS[name](folder_for(tmp_path, name))
    rig: PostgresRig = request.getfixturevalue("postgres")
    if rig.server._process is None:
        rig.server.start()
    rig.server.execute(f"DROP SCHEMA IF EXISTS {rig.schema} CASCADE", database=DATABASE)
    return rig


@pytest.fixture
async def rig(engine: Rig) -> AsyncIterator[Rig]:
    """It running, for as long as the test."""
    if isinstance(engine, PostgresRig):
        yield engine
        return
    try:
        await engine.start()
        yield engine
    finally:
        await engine.aclose()


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer | Rig]:
    """A server that all tests of the file share."""
    name = _engine_of(request)
    if name == "postgres":
        with running_server() as server:
            yield server
        return
    folder = tmp_path_factory.mktemp(name)
    rig = _RIGS[name](folder)
    try:
        trio.run(rig.start)
        yield rig
    finally:
        trio.run(rig.aclose)
        shutil.rmtree(folder)  # etcd makes files of 64 MB ahead of need, in memory where temporary folders are there


@pytest.fixture
async def backend(
    server: EtcdRig | PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EtcdBackend | PostgresBackend]:
    """A part of that server which no other test has: a namespace, or a schema with a name that SQL must quote.

    A call to etcd may take as long as a busy machine needs for hundreds of topics; `rig` has the limit of a node.
    """
    if isinstance(server, EtcdRig):
        monkeypatch.setattr("softstate.store.etcd.gateway.CALL_S", 30.0)
        yield EtcdBackend(server, f"test-{next(_numbers)}")
        return
    backend = PostgresBackend(server, f"Test {next(_numbers)}")
    yield backend
    await backend.close_stores()


@pytest.fixture
def applications(backend: PostgresBackend) -> Iterator[list[Any]]:
    """A list of programs, to be filled: the `connection` of each is closed at the end, before their backend is."""
    made: list[Any] = []
    yield made
    for application in made:
        application.connection.close()
