"""Making a schema a softstate store, refusing one that is not ours, and deleting one.

Its tables are in ``schema.sql`` and ``added.sql``, its functions in ``cbor.sql`` and ``functions.sql``. Those that
other programs call (``rights.sql``) run with the rights of the schema's owner (SECURITY DEFINER, with a pinned
search_path), so an application can publish without being able to touch the tables::

    GRANT USAGE ON SCHEMA softstate TO app;
    GRANT EXECUTE ON FUNCTION softstate.publish(text, jsonb), softstate.delete(text) TO app;
    GRANT EXECUTE ON FUNCTION softstate.publish_now, softstate.delete_now TO app;
"""

from __future__ import annotations

from random import Random

from psycopg import errors, sql

from softstate.errors import StoreMissing, StoreRefused, StoreRewound, Unavailable
from softstate.store.base import Publisher
from softstate.store.postgres.connection import Connection
from softstate.store.postgres.migration import drop_functions, migrate, renew_functions
from softstate.store.postgres.sources import CODE, run
from softstate.store.postgres.url import PostgresAddress
from softstate.store.rules.nonce import epoch_nonce
from softstate.store.rules.publishers import unpack

LAYOUT = 2
"""In `meta.layout`, and in ``functions.sql``. A schema with a higher one is from a newer softstate."""

TABLES = frozenset({"topic", "lineage", "idempotency", "meta"})
"""Tables of a store of any layout."""

ADDED = frozenset({"publisher", "inbox", "refused"})
"""Tables that layout 2 has beside them."""

DAMAGED_LINEAGE = "a row of the store's table lineage is damaged: stop every node, and restore a backup"

DAMAGED = "the store's row of meta is damaged: stop every node, and restore a backup"

_SOUND = (
    "SELECT checksum = meta_checksum(layout, epoch, revision, floor, keys, publishers, incarnation),"
    " (SELECT coalesce(bool_and(checksum = lineage_checksum(start, nonce) AND start BETWEEN 1 AND revision), true)"
    " FROM lineage) FROM meta"
)

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


def claim(connection: Connection, address: PostgresAddress, random: Random, *, create: bool, read_only: bool) -> None:
    """Make the schema ours if it is empty or missing. Raises `StoreRefused` for what is not ours, left untouched.

    A store of layout 1 is migrated, and one with older functions gets ours. Everything is one transaction: a crash
    leaves nothing or all, and of two nodes that create or migrate it together, the second finds it made. Without
    `create`, none is made: `StoreMissing`. If `read_only`, nothing is changed, and layout 1 is refused. Damage to what
    all depends on is refused too.
    """
    connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    connection.execute(_LOCK, (address.schema,))
    exists, layout = _look(connection, address)
    if layout is None and (read_only or not create):
        raise StoreMissing(
            f"{address.name}: there is no store in schema {address.schema!r}, and none was made: name another one, or"
            " make it (softstate store create)"
        )
    if layout is None:
        _create(connection, address, random, exists=exists)
    elif layout == 1 and read_only:
        raise StoreRefused(
            f"{address.name}: schema {address.schema!r} has layout 1, of November 2026: stop every node of that"
            " release, and start one of this, which migrates it (softstate serve)"
        )
    elif layout == 1:
        migrate(connection, address.name)
    elif layout != LAYOUT:
        raise StoreRefused(
            f"{address.name}: schema {address.schema!r} has layout {layout}, this softstate knows {LAYOUT}:"
            " install the softstate that wrote it, or name another schema"
        )
    elif not read_only:
        renew_functions(connection, address.name)
    _check_rows(connection, address)
    connection.execute("COMMIT")


def _check_rows(connection: Connection, address: PostgresAddress) -> None:
    row = connection.execute(_SOUND).fetchone()
    if row is None or row[0] is not True:
        raise StoreRefused(f"{address.name}: {DAMAGED}")
    if row[1] is not True:
        raise StoreRefused(f"{address.name}: {DAMAGED_LINEAGE}")


def needs_migration(connection: Connection, address: PostgresAddress) -> bool:
    """Tell whether `claim` will have to migrate, which may take long. Raises `StoreRefused` for what is not ours."""
    return _look(connection, address)[1] == 1


def _look(connection: Connection, address: PostgresAddress) -> tuple[bool, int | None]:
    """Return whether the schema exists, and the layout of the store in it, None if there is none and may be one."""
    row = connection.execute(_INSPECT, {"schema": address.schema}).fetchone()
    assert row is not None
    exists, tables, columns = row
    if not tables:
        return exists, None
    if not (TABLES.issubset(tables) and {"layout", "epoch", "incarnation"}.issubset(columns)):
        raise StoreRefused(
            f"{address.name}: schema {address.schema!r} holds other tables than a store's, and was left untouched:"
            " name another one (?schema=…); if a backup is being restored, wait for its end"
        )
    row = connection.execute("SELECT layout FROM meta").fetchone()
    if row is None:
        raise StoreRefused(
            f"{address.name}: schema {address.schema!r} has the tables of a store, but nothing in meta: if a backup is"
            " being restored, wait for its end (psql --single-transaction shows it whole), else drop the schema"
        )
    return exists, row[0]


def check_meta(layout: int | None, *, sound: bool | None) -> None:
    """Raise unless a transaction may go on with the row of `meta` that it has found, None if it found none."""
    if layout is None:
        raise StoreRewound("the store's tables were emptied while it was open: reopen it")
    if layout != LAYOUT:
        raise Unavailable(
            f"the store's layout was changed to {layout}, and this softstate knows {LAYOUT}: stop this node, and"
            " install the softstate that changed it"
        )
    if not sound:
        raise Unavailable(DAMAGED)


def _create(connection: Connection, address: PostgresAddress, random: Random, *, exists: bool) -> None:
    try:
        if not exists:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(address.schema)))
        run(connection, "schema.sql", "added.sql", *CODE, "rights.sql")
    except errors.InsufficientPrivilege as error:
        raise StoreRefused(
            f"{address.name}: this user may not create schema {address.schema!r} and its contents: let the owner of the"
            f" database run CREATE SCHEMA {sql.Identifier(address.schema).as_string()} AUTHORIZATION, naming the user"
        ) from error
    connection.execute(
        "INSERT INTO meta (layout, epoch, revision, floor, keys, publishers, incarnation, written, checksum)"
        " SELECT layout, epoch, 0, 0, 0, 0, '', '0', meta_checksum(layout, epoch, 0, 0, 0, 0, '')"
        " FROM (VALUES (%s::integer, %s::text)) AS made (layout, epoch)",
        (LAYOUT, epoch_nonce(random)),
    )


def destroy(connection: Connection, address: PostgresAddress) -> None:
    """Delete the schema and softstate's tables and functions in it.

    Raises `StoreRefused`, and leaves everything, if anything else is in it, or depends on it.
    """
    connection.execute("BEGIN")
    try:
        drop_functions(connection)
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.SQL(", ").join(map(sql.Identifier, TABLES | ADDED))))
        connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(address.schema)))
    except (errors.DependentObjectsStillExist, errors.InsufficientPrivilege) as error:
        raise StoreRefused(f"{address.name}: schema {address.schema!r} cannot be deleted: {error}") from error
    connection.execute("COMMIT")


def key_bytes(key: str) -> bytes:
    """Return an idempotency key or a publisher as the store keeps it.

    A client may choose any text, and PostgreSQL's has no NUL.
    """
    return key.encode("utf-8", "surrogatepass")


def publisher_of(row: tuple[bytes, int, int, bytes]) -> Publisher:
    """Return a publisher from its row, whose checksum is right: name, settled, touched, uses."""
    name, settled, touched, uses = row
    return Publisher(key_text(name), settled, touched, unpack(uses))


def key_text(key: bytes) -> str:
    """Return the key or publisher that `key_bytes` has made these bytes of."""
    return key.decode("utf-8", "surrogatepass")
