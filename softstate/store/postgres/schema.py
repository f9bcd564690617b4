"""Making a schema a softstate store, refusing one that is not ours, and deleting one.

Its contents are in `schema.sql`, with the two functions that other programs call. They run with the rights of
the schema's owner (SECURITY DEFINER, with a pinned search_path), so an application can publish without being able to
touch the tables::

    GRANT USAGE ON SCHEMA softstate TO app;
    GRANT EXECUTE ON FUNCTION softstate.publish(text, jsonb, bigint), softstate.delete(text, bigint) TO app;
"""

from __future__ import annotations

from importlib.resources import files
from random import Random

from psycopg import errors, sql

from softstate.errors import StoreRefused
from softstate.store.postgres.connection import Connection
from softstate.store.postgres.url import PostgresAddress
from softstate.store.rules.nonce import epoch_nonce

LAYOUT = 1
"""In `meta.layout`. A schema with a higher one is from a newer softstate."""

TABLES = frozenset({"topic", "lineage", "idempotency", "meta"})

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('softstate'), hashtext(%s))"
"""Held while a schema is looked at and made: nodes that start together find it missing, or complete."""

_INSPECT = """
SELECT
    to_regnamespace(quote_ident(%(schema)s)) IS NOT NULL,
    ARRAY(
        SELECT relname::text FROM pg_class
        WHERE relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND relkind IN ('r', 'p', 'v', 'm', 'f')
    ),
    ARRAY(
        SELECT attname::text FROM pg_attribute
        WHERE attrelid = to_regclass(quote_ident(%(schema)s) || '.meta') AND attnum > 0
    )
"""

_DROP = """
DROP FUNCTION publish(text, jsonb, bigint), delete(text, bigint), change(text, bytea, bigint),
    to_cbor(jsonb, integer), cbor_bytes(jsonb), cbor_number(numeric), cbor_head(integer, bigint), check_topic(text),
    incarnation();
DROP TABLE topic, lineage, idempotency, meta;
"""


def claim(connection: Connection, address: PostgresAddress, random: Random) -> None:
    """Make the schema ours if it is empty or missing. Raises `StoreRefused` for what is not ours, left untouched.

    Everything is one transaction: a crash leaves nothing or all, and of two nodes that create it together, the second
    finds it made.
    """
    connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    connection.execute(_LOCK, (address.schema,))
    row = connection.execute(_INSPECT, {"schema": address.schema}).fetchone()
    assert row is not None
    exists, tables, columns = row
    if TABLES.issubset(tables) and {"layout", "epoch", "incarnation"}.issubset(columns):
        _check_layout(connection, address)
    elif tables:
        raise StoreRefused(
            f"{address.name}: schema {address.schema!r} holds other tables than a store's, and was left untouched:"
            " name another one (?schema=…); if a backup is being restored, wait for its end"
        )
    else:
        _create(connection, address, random, exists=exists)
    connection.execute("COMMIT")


def _check_layout(connection: Connection, address: PostgresAddress) -> None:
    row = connection.execute("SELECT layout FROM meta").fetchone()
    if row is None:
        raise StoreRefused(
            f"{address.name}: schema {address.schema!r} has the tables of a store, but nothing in meta: if a backup is"
            " being restored, wait for its end (psql --single-transaction shows it whole), else drop the schema"
        )
    if row[0] != LAYOUT:
        raise StoreRefused(
            f"{address.name}: schema {address.schema!r} has layout {row[0]}, this softstate knows {LAYOUT}:"
            " install the softstate that wrote it, or name another schema"
        )


def _create(connection: Connection, address: PostgresAddress, random: Random, *, exists: bool) -> None:
    try:
        if not exists:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(address.schema)))
        connection.execute(files(__package__).joinpath("schema.sql").read_bytes())
    except errors.InsufficientPrivilege as error:
        raise StoreRefused(
            f"{address.name}: this user may not create schema {address.schema!r} and its contents: let the owner of the"
            f" database run CREATE SCHEMA {sql.Identifier(address.schema).as_string()} AUTHORIZATION, naming the user"
        ) from error
    connection.execute(
        "INSERT INTO meta (layout, epoch, head, floor, keys, incarnation, written) VALUES (%s, %s, 0, 0, 0, '', '0')",
        (LAYOUT, epoch_nonce(random)),
    )


def destroy(connection: Connection, address: PostgresAddress) -> None:
    """Delete the schema and softstate's tables and functions in it.

    Raises `StoreRefused`, and leaves everything, if anything else is in it, or depends on it.
    """
    connection.execute("BEGIN")
    try:
        connection.execute(_DROP)
        connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(address.schema)))
    except (errors.DependentObjectsStillExist, errors.InsufficientPrivilege) as error:
        raise StoreRefused(f"{address.name}: schema {address.schema!r} cannot be deleted: {error}") from error
    connection.execute("COMMIT")


def key_bytes(key: str) -> bytes:
    """Return an idempotency key as the store keeps it: a client may choose any text, and PostgreSQL's has no NUL."""
    return key.encode("utf-8", "surrogatepass")


def key_text(key: bytes) -> str:
    """Return the idempotency key that `key_bytes` has made these bytes of."""
    return key.decode("utf-8", "surrogatepass")
