"""The functions of a PostgreSQL store: how one that has older ones gets those of this softstate, and what they do."""

from __future__ import annotations

import hashlib

import pytest

from softstate.errors import StoreRefused
from softstate.store.postgres import sources
from softstate.testing.conformance.stage import put, state
from tests.store.engines.postgres_rig import DATABASE, ROLE, PostgresBackend

DIGESTS = {8: "fea5255394adfdbc81cb83b03101461b82a4bd29ce381e5520033f439fc4d5f7"}
"""By number: SHA-256 of all that a store gets. A change needs a new number, or no store of before gets it."""

FUNCTIONS = (
    "SELECT oid::regprocedure::text, prosrc, prosecdef, proconfig, obj_description(oid, 'pg_proc') FROM pg_proc"
    " WHERE pronamespace = 'SCHEMA'::regnamespace ORDER BY 1"
)

OLDER = (
    "CREATE OR REPLACE FUNCTION SCHEMA.check_topic(name text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$"
    " BEGIN RAISE EXCEPTION 'older'; END $$"
)
"""A function as a softstate of before may have left it."""


def make_older(backend: PostgresBackend, number: int | None) -> None:
    """Give the store another function, and the number of its set: none is that of before there were numbers."""
    comment = "NULL" if number is None else f"'softstate: functions, number {number}'"
    backend.tell(OLDER)
    backend.tell(f"COMMENT ON FUNCTION SCHEMA.take_counter(boolean) IS {comment}")


def test_a_change_of_the_functions_has_a_new_number() -> None:
    digest = hashlib.sha256(b"".join(map(sources.source, sources.CODE))).hexdigest()
    assert {sources.NUMBER: digest} == DIGESTS


async def test_a_store_with_older_functions_gets_ours(backend: PostgresBackend) -> None:
    """Grants stay, to PUBLIC too, and open stores go on with the new ones."""
    store = await backend.open()
    await put(store, "a")
    ours = backend.tell(FUNCTIONS)
    backend.tell("GRANT EXECUTE ON FUNCTION SCHEMA.publish(text, jsonb) TO PUBLIC")
    make_older(backend, None)
    assert backend.tell(FUNCTIONS) != ours
    await (await backend.open()).aclose()
    assert backend.tell(FUNCTIONS) == ours
    granted = backend.tell(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'SCHEMA'::regnamespace"
        " AND has_function_privilege('public', oid, 'EXECUTE')"
    )
    assert [name.endswith("publish(text,jsonb)") for (name,) in granted] == [True]
    await backend.send("b", "1")
    await put(store, "c")
    assert sorted(await state(store)) == ["a", "b", "c"]


async def test_newer_functions_of_the_same_layout_stay(backend: PostgresBackend) -> None:
    """Of two releases that take turns, each with a node, none brings the older ones back."""
    await (await backend.open()).aclose()
    make_older(backend, sources.NUMBER + 1)
    newer = backend.tell(FUNCTIONS)
    await (await backend.open()).aclose()
    assert backend.tell(FUNCTIONS) == newer


async def test_reading_replaces_no_functions(backend: PostgresBackend) -> None:
    await (await backend.open()).aclose()
    make_older(backend, None)
    older = backend.tell(FUNCTIONS)
    await backend.open_to_read()
    assert backend.tell(FUNCTIONS) == older


@pytest.mark.parametrize("hindrance", ["takes no writes", "another owner"])
async def test_a_store_whose_functions_cannot_be_replaced_is_used_as_it_is(
    backend: PostgresBackend, hindrance: str
) -> None:
    await (await backend.open()).aclose()
    make_older(backend, None)
    older = backend.tell(FUNCTIONS)
    if hindrance == "another owner":
        backend.tell("ALTER FUNCTION SCHEMA.check_topic(text) OWNER TO postgres")
        backend.tell(f"GRANT EXECUTE ON FUNCTION SCHEMA.check_topic(text) TO {ROLE}")
        store = await backend.open()
        await put(store, "a")
        assert sorted(await state(store)) == ["a"]
    else:
        backend.server.execute(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on")
        try:
            assert "takes no writes" in (await backend.open()).unwritten
        finally:
            backend.server.execute(f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only")
    assert backend.tell(FUNCTIONS) == older


async def test_our_functions_are_told_by_what_they_take(backend: PostgresBackend) -> None:
    await (await backend.open()).aclose()
    found = backend.tell(
        "SELECT proname || '(' || coalesce(string_agg(format_type(type, NULL), ',' ORDER BY place), '') || ')'"
        " FROM pg_proc LEFT JOIN LATERAL unnest(proargtypes) WITH ORDINALITY AS argument (type, place) ON true"
        " WHERE pronamespace = 'SCHEMA'::regnamespace GROUP BY pg_proc.oid, proname"
    )
    assert {signature for (signature,) in found} == sources.SIGNATURES


async def test_a_function_of_others_with_a_name_of_ours_stays(backend: PostgresBackend) -> None:
    """It keeps the schema, and is named."""
    store = await backend.open()
    await put(store, "a")
    backend.tell("CREATE FUNCTION SCHEMA.publish(topic text, value text) RETURNS text LANGUAGE sql AS 'SELECT value'")
    with pytest.raises(StoreRefused, match=r"(?s)cannot be deleted: .*function .*publish\(text,text\) depends"):
        await store.destroy()
    assert backend.tell("SELECT SCHEMA.publish('a'::text, 'b'::text)") == [("b",)]
    assert sorted(await state(store)) == ["a"]
    backend.tell("DROP FUNCTION SCHEMA.publish(text, text)")
    await store.destroy()
    assert backend.tell("SELECT to_regnamespace('SCHEMA')") == [(None,)]
