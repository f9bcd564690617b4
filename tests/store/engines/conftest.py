"""Engines for the tests of nodes and clients on them; see `outage_rig`. `engine` is named by parametrising it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.store.engines.etcd_rig import EtcdRig, need_etcd
from tests.store.engines.postgres_rig import DATABASE, PostgresRig
from tests.store.engines.redis_rig import RedisRig
from tests.store.engines.rig import Rig, folder_for
from tests.store.engines.sqlite_rig import SqliteRig

MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 1024**3


def _etcd(folder: Path) -> EtcdRig:
    need_etcd()
    return EtcdRig(folder)


_RIGS: dict[str, Callable[[Path], Rig]] = {"redis": RedisRig, "etcd": _etcd, "sqlite": SqliteRig}


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresRig]:
    """One server for all tests, since to make one takes seconds.

    In memory, if there is room: a backup put back is a thousand files, and PostgreSQL syncs each of them at its start.
    """
    with pytest.MonkeyPatch.context() as patch:
        if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES_MIN:
            patch.setattr(tempfile, "tempdir", str(MEMORY))
        with PostgresRig.running() as rig:
            patch.undo()
            yield rig


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """The engine that the test is parametrised with, without anything of softstate's."""
    name: str = request.param
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
    await engine.start()
    try:
        yield engine
    finally:
        await engine.aclose()
