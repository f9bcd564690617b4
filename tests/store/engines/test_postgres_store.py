"""The PostgreSQL store: the contract, the order of commits, and publishing from other programs' transactions."""

from __future__ import annotations

import json
import threading
from typing import Any

import psycopg
import pytest
import trio
import trio.testing

from softstate.errors import Unavailable
from softstate.model import Page, Query, Record
from softstate.names import ALL
from softstate.position import Position
from softstate.store.base import Applied, Write
from softstate.store.postgres.notifications import Notifications
from softstate.store.postgres.store import PostgresStore
from softstate.store.remote.encoding import cbor_of_json
from softstate.testing import STORE_CHECKS, Rewindable, StoreCheck, run_check
from softstate.testing.conformance.stage import put, state
from softstate.wire import decode_value
from tests.kit.processes import WAIT_S, until
from tests.store.engines.postgres_rig import DATABASE, PostgresBackend, PostgresServer, call


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
async def test_contract(check: StoreCheck, backend: PostgresBackend) -> None:
    assert isinstance(backend, Rewindable)
    await run_check(check, backend)


# The order of commits ------------------------------------------------------------------------------------------------


class Application:
    """Another program, with a transaction that it takes its time over, in a thread."""

    def __init__(self, backend: PostgresBackend) -> None:
        self._schema = backend.schema
        self.connection = backend.connect()
        self.version: int | None = None
        self._thread: threading.Thread | None = None

    def publish(self, topic: str, value: str = "1", *more: Any) -> int:
        self.version = call(self.connection, self._schema, "publish_now", topic, value, *more)
        return self.version

    def begin_publishing(self, topic: str) -> None:
        """Write in the background, since it will have to wait."""
        self._thread = threading.Thread(target=self.publish, args=[topic])
        self._thread.start()

    def finish_publishing(self) -> int:
        assert self._thread is not None
        self._thread.join(WAIT_S)
        assert self.version is not None
        return self.version

    def waits(self, server: PostgresServer) -> bool:
        pid = self.connection.info.backend_pid
        return server.execute(f"SELECT cardinality(pg_blocking_pids({pid})) > 0") == [(True,)]


async def test_slow_transactions_commit_in_the_order_of_their_revisions(
    backend: PostgresBackend, applications: list[Application]
) -> None:
    """The classic mistake is that 11 becomes visible before 10, and a reader that saw 11 never asks for 10."""
    follower = await backend.open()
    after = await follower.head()
    applications += [Application(backend), Application(backend)]
    first, second = applications
    early = first.publish("first")
    second.begin_publishing("second")
    await trio.to_thread.run_sync(lambda: until("the second waits", lambda: second.waits(backend.server)))
    assert second.version is None
    assert (await follower.feed(after)).records == []
    first.connection.commit()
    late = await trio.to_thread.run_sync(second.finish_publishing)
    assert late == early + 1
    feed = await follower.feed(after)
    assert [(record.topic, record.version) for record in feed.records] == [("first", early)]
    second.connection.commit()
    feed = await follower.feed(feed.upto)
    assert [(record.topic, record.version) for record in feed.records] == [("second", late)]


async def test_rolled_back_publish_leaves_no_gap(backend: PostgresBackend, applications: list[Application]) -> None:
    store = await backend.open()
    before = await store.head()
    applications.append(Application(backend))
    assert applications[0].publish("a") == before.revision + 1
    applications[0].connection.rollback()
    assert await put(store, "b") == before.revision + 1
    assert sorted(await state(store)) == ["b"]


async def test_blocker_makes_publishes_fail_fast_and_reads_go_on(
    backend: PostgresBackend, applications: list[Application]
) -> None:
    store = await backend.open()
    head = await store.head()
    applications.append(Application(backend))
    version = applications[0].publish("app")
    with pytest.raises(Unavailable, match="publish with two arguments, or last"):
        await store.publish([Write("a", b"\x01")])
    assert await store.head() == head
    assert await state(store) == {}
    applications[0].connection.commit()
    assert await put(store, "a") == version + 1
    assert (await store.head()).lineage == head.lineage, "a wait for a lock that fails breaks nothing"


async def test_writers_of_all_kinds_take_turns(backend: PostgresBackend, applications: list[Application]) -> None:
    """Nodes and programs at the same time: every revision is taken once, and no lineage begins."""
    stores = [await backend.open(), await backend.open()]
    start = await stores[0].head()
    applications += [Application(backend), Application(backend)]

    async def as_node(store: PostgresStore) -> None:
        for number in range(25):
            await store.publish([Write(f"node/{id(store)}/{number}/{part}", b"\x01") for part in range(3)])

    def as_application(application: Application) -> None:
        for number in range(25):
            # Savepoints make transactions of their own within one, as frameworks like to do.
            with application.connection.transaction(), application.connection.transaction():
                application.publish(f"app/{id(application)}/{number}/0")
            with application.connection.transaction():
                application.publish(f"app/{id(application)}/{number}/1")

    async with trio.open_nursery() as nursery:
        for store in stores:
            nursery.start_soon(as_node, store)
        for application in applications:
            nursery.start_soon(trio.to_thread.run_sync, as_application, application)
    after, found = start, list[int]()
    more = True
    while more:
        feed = await stores[0].feed(after)
        found += [record.version for record in feed.records]
        assert feed.lineages == []
        after, more = feed.upto, feed.more
    assert found == list(range(start.revision + 1, start.revision + 1 + 2 * 25 * 3 + 2 * 25 * 2))


# Publishing directly -------------------------------------------------------------------------------------------------


async def value_of(store: PostgresStore, topic: str) -> Any:
    (page,) = await store.read([Query(topics={topic: 0})])
    assert isinstance(page, Page)
    (record,) = page.records
    assert record.cbor is not None
    return decode_value(record.cbor)


VALUES: list[tuple[str, Any]] = [
    ("null", None),
    ("true", True),
    ("false", False),
    *((str(number), number) for bits in (5, 8, 16, 32, 63) for number in (2**bits - 1, -(2**bits))),
    *((str(number), number) for number in (23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, -24, -25, -257)),
    ("1.5", 1.5),
    ("-0.1", -0.1),
    ("1.0", 1.0),
    ("1e3", 1000),
    ("1.5e300", 1.5e300),
    ("-100000000000000000000", -1e20),
    ("5e-324", 5e-324),
    ("1e-400", 0.0),
    ('""', ""),
    ('"ä\\u0001\\ud83d\\ude00"', "ä\x01\U0001f600"),
    ('"' + "x" * 300 + '"', "x" * 300),
    ("[]", []),
    ("{}", {}),
    ('[1, [2, {"a": [null]}], "b"]', [1, [2, {"a": [None]}], "b"]),
    ('{"$bytes": "AAEC/w=="}', b"\x00\x01\x02\xff"),
    ('{"$bytes": ""}', b""),
    ('{"$bytes": "AA==", "b": 1}', {"$bytes": "AA==", "b": 1}),
    (str(list(range(300))), list(range(300))),
    ("[" * 32 + "]" * 32, json.loads("[" * 32 + "]" * 32)),
    ("[" * 32 + '{"$bytes": ""}' + "]" * 32, json.loads("[" * 32 + "{}" + "]" * 32, object_hook=lambda _: b"")),
]


@pytest.mark.parametrize(("text", "value"), VALUES, ids=[text[:30] for text, _ in VALUES])
async def test_values_published_directly_arrive(backend: PostgresBackend, text: str, value: Any) -> None:
    store = await backend.open()
    await backend.publish_directly("a", text)
    found = await value_of(store, "a")
    assert (found, type(found)) == (value, type(value))


TOPIC = "must not begin or end with '/', nor hold an empty, '.' or '..' segment"

REFUSALS: list[tuple[str | None, str | None, str, str]] = [
    ("", "1", "SS400", "1 to 255 bytes of UTF-8, this one has 0"),
    (None, "1", "SS400", "1 to 255 bytes of UTF-8, this one has 0"),
    ("ä" * 128, "1", "SS400", "1 to 255 bytes of UTF-8, this one has 256"),
    ("a\nb", "1", "SS400", "control characters"),
    ("a\x85b", "1", "SS400", "control characters"),
    *((topic, "1", "SS400", TOPIC) for topic in ("/", "/a", "a/", "a//b", ".", "..", "./a", "a/..", "a/./b")),
    ("a", None, "SS400", "value is NULL"),
    ("a", str(2**63), "SS400", "fits neither 64 bits, signed, nor a double"),
    ("a", str(-(2**63) - 1), "SS400", "fits neither 64 bits, signed, nor a double"),
    ("a", "1e309", "SS400", "fits neither 64 bits, signed, nor a double"),
    ("a", "1" + "0" * 309 + ".5", "SS400", "fits neither 64 bits, signed, nor a double"),
    ("a", '[{"$bytes": "AA"}]', "SS400", "must hold standard base64 text"),
    ("a", '{"$bytes": "AA=="}'.replace("==", "=\\n="), "SS400", "must hold standard base64 text"),
    ("a", '{"$bytes": 7}', "SS400", "must hold standard base64 text"),
    ("a", '{"$bytes": null}', "SS400", "must hold standard base64 text"),
    ("a", "[" * 33 + "]" * 33, "SS400", "nested deeper than 32 levels"),
    ("a", json.dumps("x" * 65_534), "SS413", "value is 65537 bytes encoded as CBOR, the limit is 65536"),
    ("a", json.dumps(["x" * 30] * 2_200), "SS413", "value is 70403 bytes encoded as CBOR, the limit is 65536"),
    ("a", json.dumps([0] * 4_097), "SS413", r"value holds 4097 items \(members of lists and maps\), the limit is 4096"),
    ("a", json.dumps({"a": [0] * 2_048, "b": {"c": [[]] * 2_046}}), "SS413", "value holds 4097 items"),
]


@pytest.mark.parametrize("function", ["publish", "publish_now"])
@pytest.mark.parametrize(("topic", "text", "state", "words"), REFUSALS)
async def test_what_cannot_be_carried_is_refused(
    backend: PostgresBackend, topic: str | None, text: str | None, state: str, words: str, function: str
) -> None:
    """To the program itself, when it calls: nothing is left to be refused later."""
    store = await backend.open()
    head = await store.head()
    with pytest.raises(psycopg.DatabaseError, match=f"softstate: .*{words}") as caught:
        backend.call(function, topic, text)
    assert caught.value.sqlstate == state
    assert await store.head() == head


async def test_limits_are_reached_exactly(backend: PostgresBackend) -> None:
    store = await backend.open()
    topic = "ä/…" + "x" * (255 - len("ä/…".encode()))
    await backend.publish_directly(topic, json.dumps("x" * 65_531))
    assert await value_of(store, topic) == "x" * 65_531
    await backend.send(topic, json.dumps("y" * 65_531))
    await put(store, "a")
    assert await value_of(store, topic) == "y" * 65_531


@pytest.mark.parametrize(
    "value",
    [
        [0] * 4_096,
        {"a": [0] * 2_048, "b": {"c": [[]] * 2_045}},
        [{"$bytes": "AA=="}] * 4_096,
        [{"$bytes": "AA==", "b": 1}] * 1_365,
    ],
    ids=["list", "map", "bytes", "no bytes"],
)
async def test_as_many_items_as_a_node_takes_may_be_published(backend: PostgresBackend, value: Any) -> None:
    text = json.dumps(value)
    assert decode_value(cbor_of_json(text.encode())) is not None
    await (await backend.open()).aclose()
    await backend.send("a", text)
    await backend.publish_directly("a", text)


async def test_direct_compare_and_set_and_delete(backend: PostgresBackend) -> None:
    store = await backend.open()
    first = backend.call("publish", "a", "1", 0)
    for wrong in (0, first + 1):
        with pytest.raises(psycopg.DatabaseError, match=f"topic a is at version {first}, not {wrong}") as caught:
            backend.call("publish", "a", "2", wrong)
        assert caught.value.sqlstate == "SS412"
    for function, arguments in (("publish_now", ("a", "2")), ("delete_now", ("a",)), ("delete", ("a",))):
        with pytest.raises(psycopg.DatabaseError, match=r"expect must be a version, .*, not -7\n") as caught:
            backend.call(function, *arguments, -7)
        assert caught.value.sqlstate == "SS400", "it is no condition at all, and nothing is changed"
    with pytest.raises(psycopg.DatabaseError, match="topic b is at version 0, not 1"):
        backend.call("delete", "b", 1)
    with pytest.raises(psycopg.DatabaseError, match="topic b does not exist"):
        backend.call("publish_now", "b", "1", -1)
    assert backend.call("delete", "b", None) == 0
    gone = backend.call("delete", "a", first)
    assert gone == first + 1
    feed = await store.feed(Position((await store.head()).epoch, (await store.head()).lineage, first))
    assert feed.records == [Record("a", gone, None)]
    assert backend.call("delete_now", "a") == backend.call("delete", "a", 0) == gone, "nothing was left to delete"
    for wrong in (-1, gone, first):
        with pytest.raises(psycopg.DatabaseError, match="topic a "):
            backend.call("delete", "a", wrong)
    assert backend.call("publish", "a", "3", 0) == gone + 1
    (verdict,) = (await store.publish([Write("a", b"\x04", expect=gone + 1)])).verdicts
    assert verdict == Applied(gone + 2)


async def hear(store: PostgresStore, head: Position) -> None:
    with trio.fail_after(WAIT_S):
        while (await store.head()).revision <= head.revision:
            await store.wait(head.revision)


async def test_direct_publish_wakes_every_store(backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the notification: no look of their own would come in time."""
    monkeypatch.setattr("softstate.store.commit_waiter.CHECK_EVERY_S", 10 * WAIT_S)
    stores = [await backend.open(), await backend.open()]
    head = await stores[0].head()
    async with trio.open_nursery() as nursery:
        for store in stores:
            nursery.start_soon(hear, store, head)
        await trio.testing.wait_all_tasks_blocked()
        await backend.publish_directly("a", "1")


async def never_notified(_notifications: Notifications) -> None:
    await trio.sleep_forever()


async def test_a_store_without_notifications_checks_itself(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notifications may be lost, so nothing depends on them."""
    monkeypatch.setattr(Notifications, "wait", never_notified)
    store = await backend.open()
    head = await store.head()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear, store, head)
        await trio.testing.wait_all_tasks_blocked()
        await backend.publish_directly("a", "1")


async def test_strange_notifications_do_no_harm(backend: PostgresBackend) -> None:
    """Any program may notify anything: a known revision is ignored, a payload that is no number causes a check."""
    store = await backend.open()
    head = await store.head()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear, store, head)
        for payload in ("0", "-7", "999999999999999999999", "\u0663", "drop", "9" * 5000):
            backend.server.execute(f"NOTIFY \"{backend.schema}\", '{payload}'", database=DATABASE)
        assert await store.head() == head
        await backend.publish_directly("a", "1")


async def test_another_program_needs_the_functions_only(backend: PostgresBackend, server: PostgresServer) -> None:
    """Granted two functions, it publishes with the owner's rights; the tables and all else stay closed to it."""
    store = await backend.open()
    schema, app = f'"{backend.schema}"', f"app_{backend.schema.split()[-1]}"
    for statement in (
        f"CREATE ROLE {app} LOGIN",
        f"GRANT USAGE ON SCHEMA {schema} TO {app}",
        f"GRANT EXECUTE ON FUNCTION {schema}.publish(text, jsonb), {schema}.delete(text) TO {app}",
        f"GRANT EXECUTE ON FUNCTION {schema}.publish_now, {schema}.delete_now TO {app}",
    ):
        server.execute(statement, database=DATABASE)
    with server.connect(DATABASE) as connection:
        connection.execute(f"SET ROLE {app}")
        # The functions use the owner's tables, also with another search path or temporary tables of the same names.
        connection.execute("CREATE TEMPORARY TABLE meta (head bigint); SET search_path = pg_temp")
        version = call(connection, backend.schema, "publish_now", "a", '"hello"')
        assert call(connection, backend.schema, "delete_now", "b") == 0
        call(connection, backend.schema, "publish", "c", "1")
        call(connection, backend.schema, "delete", "d")
        assert call(connection, backend.schema, "publish_now", "e", "1") == version + 2
        for closed in (
            "SELECT * FROM {}.topic", "UPDATE {}.meta SET revision = 0", "SELECT {}.change('a', '', NULL)",
            "SELECT {}.send('a', '')", "TABLE {}.inbox", "INSERT INTO {}.inbox (topic) VALUES ('a')",
            "SELECT {}.take_counter(false)", "SELECT {}.publish('a', '1', NULL)",
        ):  # fmt: skip
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(closed.format(schema))
    assert await value_of(store, "a") == "hello"


@pytest.mark.parametrize("function", ["publish", "publish_now"])
async def test_direct_commits_are_synchronous(backend: PostgresBackend, function: str) -> None:
    """Others see a commit at once; if it could still be lost, that would rewind them."""
    store = await backend.open()
    with backend.connect() as connection:
        connection.execute("SET synchronous_commit = off")
        connection.commit()
        call(connection, backend.schema, function, "a", "1")
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        connection.commit()
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)
    assert store.durability == "durable"


async def test_other_tables_are_not_touched(backend: PostgresBackend) -> None:
    """An application's own row and its publish are one transaction: both are there, or neither."""
    store = await backend.open()
    with backend.connect() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (id integer, state text)")
        connection.execute("DELETE FROM orders")
        connection.execute("INSERT INTO orders VALUES (42, 'paid')")
        call(connection, backend.schema, "publish", "orders/42", '{"state": "paid"}')
        connection.commit()
        await put(store, "a")
        connection.execute("UPDATE orders SET state = 'lost'")
        call(connection, backend.schema, "publish", "orders/42", '{"state": "lost"}')
        connection.rollback()
    assert await value_of(store, "orders/42") == {"state": "paid"}
    await store.destroy()
    with backend.connect() as connection:
        assert connection.execute("SELECT * FROM orders").fetchall() == [(42, "paid")]


async def test_keys_may_be_any_text(backend: PostgresBackend) -> None:
    """Clients choose them, and a strange one must not fail those who share its transaction."""
    store = await backend.open()
    keys = ["\0", "a\0b", "'", "ä\U0001f600", "\ud800", "\\x00"]
    group = [Write("a", b"\x01", key=key) for key in keys]
    first = [verdict for verdict in (await store.publish(group)).verdicts if isinstance(verdict, Applied)]
    again = (await store.publish(group)).verdicts
    assert again == [Applied(verdict.version, repeated=True) for verdict in first]
    assert [key.key for key in (await store.dump(0)).keys] == keys


async def test_pages_are_cut_by_bytes_too(backend: PostgresBackend) -> None:
    """Large values, of both kinds of scan: no page misses what was left out of the one before."""
    store = await backend.open()
    for part in range(3):
        await store.publish(
            [Write(f"p/{part}/{number}", bytes([0x59, 0xEA, 0x60]) + bytes(60_000)) for number in range(9)]
        )
        await store.publish([Write(f"q/{part}/{number}", b"\x01") for number in range(300)])
    for prefix, wanted in (("p/", 27), (ALL, 927), ("q/", 900)):
        query = Query(prefixes={prefix: 0}, limit=2_000, limit_bytes=10_000_000)
        (page,) = await store.read([query])
        assert isinstance(page, Page)
        assert len(page.records) == wanted
        assert [record.version for record in page.records] == sorted({record.version for record in page.records})
    topics = {f"p/{part}/{number}": 0 for part in range(3) for number in range(9)}
    (page,) = await store.read([Query(topics=topics, limit_bytes=10_000_000)])
    assert isinstance(page, Page)
    assert {record.topic for record in page.records} == set(topics)
