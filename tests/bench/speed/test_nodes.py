"""Several nodes on each engine, very small, with real servers: all figures are measured, and counts are right."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from bench.load.engines.dialect import Line
from bench.load.engines.etcd import unchunked
from bench.load.engines.redis import redis_is_whole, resp
from bench.load.process import LoadFailed, LoadProcess
from bench.measure.engines import THROW_AWAY, Engine, engine, sqlite_engine, with_option
from bench.measure.options import Measuring
from bench.measure.report import Report
from bench.measure.servers import NotInstalled
from bench.speed.nodes import nodes
from bench.speed.nodes.groups import group
from softstate.errors import ConfigError
from tests.kit.engines import missing

SMALL = nodes.Size(
    rounds=1, deaths=1, counts=(1, 2), run_s=0.3, ask_s=0.1, renew_s=0.2, sessions=8, clients_each=20, ttl_s=1.0
)


def measured(*stores: str, size: nodes.Size = SMALL) -> Report:
    """Measure on these stores; skip the test where one is not installed, unless engines are required."""
    try:
        return nodes.nodes(Measuring(quick=True), stores, size)
    except NotInstalled as error:
        missing(str(error))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("store", list(THROW_AWAY))
def test_everything_is_measured_on_each_engine(store: str) -> None:
    report = measured(store)
    assert [table.title.partition(",")[0] for table in report.tables] == [
        f"{store}: {what}"
        for what in ("latency", "durable publishes", "durable publishes", "renewals", "one node dies")
    ]  # fmt: skip
    latency, few, many, renewals, death = report.tables
    alone = "sqlite3 commit" if store == "sqlite" else "engine alone"
    assert [row.name for row in latency.rows] == ["1 node", "2 nodes", alone]
    for row in latency.rows[:2] if store == "sqlite" else latency.rows:
        assert row.medians["publishes"] == row.medians["deliveries"] == nodes.PER_S * SMALL.run_s
        assert 0 < row.medians["applied_p50_s"] <= row.medians["applied_p99_s"]
    for table in (few, many):
        bare = [row.name for row in table.rows if row.name.startswith("bare loop")]
        assert [row.name for row in table.rows] == ["1 node", "2 nodes", *bare]
        assert bare in (["bare loop"], ["bare loop", "bare loop, 1 connection"])
        assert all(row.medians["per_s"] > 0 and row.ratio is not None for row in table.rows)
    assert [row.name for row in renewals.rows] == ["1 node", "2 nodes"]
    assert all(row.medians["per_read"] > 1 for row in renewals.rows)
    [dead] = death.rows
    assert (dead.name, dead.medians["lost"], dead.medians["too_low"]) == ("2 nodes", 0, 0)
    assert 0 <= dead.medians["back_50_s"] <= dead.medians["back_all_s"]
    judged = [target.name for target in report.targets if target.ok is not None]
    assert judged == [target.name for target in report.targets]


@pytest.mark.timeout(180)
def test_an_engine_of_the_users_own_is_left_as_it_was() -> None:
    try:
        with engine("redis") as own:
            assert keys_of(own) == 0
            report = measured(own.url, size=replace(SMALL, counts=(1,)))
            assert keys_of(own) == 0
    except NotInstalled as error:
        missing(str(error))
    assert "redis: as its owner has configured it" in report.notes


def keys_of(redis: Engine) -> int:
    """Return the number of keys in a throw-away Redis."""
    line = Line("127.0.0.1", int(redis.url.rpartition(":")[2].partition("/")[0]))
    line.socket.sendall(resp(b"DBSIZE"))
    answer = line.receive()
    line.socket.close()
    return int(answer[1:-2])


@pytest.mark.timeout(60)
def test_a_survivor_that_loses_its_connection_is_counted() -> None:
    with sqlite_engine() as found, group(found, 2, "two") as servers, LoadProcess("bench.load.fleet") as load:
        expected_victim, other = servers
        ports = [server.port for server in servers]
        load.ask("open_nodes", ports=ports, clients=40, victim=expected_victim.port, seed=1)
        assert load.ask("calm", seconds=0.2)["lost"] == 0
        load.tell("calm", seconds=1.0)
        os.kill(other.pid, signal.SIGKILL)
        noticed = load.answer()
    assert (noticed["lost"], noticed["left"]) == (20, 20)


def test_a_store_that_is_no_engine_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigError, match="--store must be one of sqlite, redis") as refused:
        nodes.nodes(Measuring(), ["mysql://user:secret@host/db"])
    assert "secret" not in str(refused.value)


def test_an_option_of_a_url_is_set_or_replaced() -> None:
    assert with_option("redis://h/0", "namespace", "n") == "redis://h/0?namespace=n"
    assert with_option("redis://h/0?namespace=a&cacert=c", "namespace", "n") == "redis://h/0?cacert=c&namespace=n"


def test_chunks_come_out_whole() -> None:
    body = b'b\r\n{"result":1\r\n2\r\n}\n\r\n'
    for cut in range(len(body)):
        first, rest = unchunked(body[:cut])
        second, rest = unchunked(rest + body[cut:])
        assert (first + second, rest) == (b'{"result":1}\n', b"")


def test_an_error_of_redis_ends_the_bench() -> None:
    assert not redis_is_whole(b"+OK\r\n+QUE", 2)
    assert redis_is_whole(b"+OK\r\n+QUEUED\r\n", 2)
    with pytest.raises(LoadFailed, match="READONLY"):
        redis_is_whole(b"+OK\r\n-READONLY You can't write against a read only replica.\r\n", 2)
