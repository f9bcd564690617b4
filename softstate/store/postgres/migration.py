"""Carrying a store over from layout 1, which softstate wrote until November 2026: one transaction, nothing or all.

A node of that layout that runs on finds a column gone that it reads in each transaction, takes the store for rewound,
and is refused when it opens it again. Programs that publish go on: a role that may call a function of the old name may
call the new ones. `softstate.store.postgres.schema.claim` calls this, with the schema locked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import structlog
from psycopg import errors, sql

from softstate.model import PAGE_BYTES_MAX, PAGE_RECORDS_MAX
from softstate.store.postgres.connection import Connection
from softstate.store.postgres.sources import CODE, NUMBER, SIGNATURES, number_in, run
from softstate.store.remote.encoding import MAGIC, recovered

_LOCK = "LOCK TABLE meta, topic, lineage, idempotency IN ACCESS EXCLUSIVE MODE"

_BATCH = (
    "SELECT version, topic, value FROM (SELECT version, topic, value,"
    " sum(octet_length(value)) OVER (ORDER BY version) - octet_length(value) AS before FROM"
    " (SELECT version, topic, value FROM topic WHERE version > %s AND value IS NOT NULL ORDER BY version LIMIT %s)"
    " AS batch) AS batch WHERE before < %s ORDER BY version"
)

_OURS = (
    "SELECT found::oid, found::text"
    " FROM (SELECT to_regprocedure(format('%%I.%%s', current_schema(), signature)) AS found"
    " FROM unnest(%s::text[]) AS signature) AS ours WHERE found IS NOT NULL"
)
"""Those of some functions that are there, told from others of their names by what they take: number and signature."""

_GRANTED = ("publish(text,jsonb,bigint)", "delete(text,bigint)")
"""The functions of layout 1 that other programs call."""

_GRANTS = (
    "SELECT DISTINCT proname, CASE WHEN grantee <> 0 THEN grantee::regrole::text END, is_grantable"
    " FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))"
    " WHERE pg_proc.oid = ANY (%s) AND privilege_type = 'EXECUTE' AND grantee <> proowner"
)

_HELD = "SELECT obj_description(to_regprocedure('take_counter(boolean)'), 'pg_proc')"

log = structlog.get_logger("softstate.store")


def migrate(connection: Connection, name: str) -> None:
    """Bring the tables and functions of layout 1 to layout 2, within the caller's transaction.

    A value that does not decode gets no right checksum: its topic is unreadable from then on, and stands in nobody's
    way.
    """
    # It may take as long as it takes to read the store once.
    connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    connection.execute(_LOCK)
    granted = [number for number, _ in connection.execute(_OURS, (list(_GRANTED),))]
    grants = connection.execute(_GRANTS, (granted,)).fetchall()
    drop_functions(connection)
    run(connection, "migrate.sql", "added.sql", *CODE, "rights.sql")
    damaged = _mend_values(connection)
    run(connection, "checksums.sql")
    connection.execute("UPDATE meta SET layout = 2")
    connection.execute(
        "UPDATE meta SET checksum = meta_checksum(layout, epoch, revision, floor, keys, publishers, incarnation)"
    )
    for function, role, grantable in grants:
        _grant(connection, function, role, grantable=grantable)
    log.info("store migrated", store=name, layout=2, unreadable=damaged)


def renew_functions(connection: Connection, name: str) -> None:
    """Replace the functions of a store by ours if those are older, within the caller's transaction.

    Their signatures are the same within a layout, so nodes and programs of before go on, and grants stay.
    Where they cannot be replaced (another owner, a server that takes no writes) the store is used with those it has.
    """
    row = connection.execute(_HELD).fetchone()
    assert row is not None
    if number_in(row[0]) >= NUMBER:
        return
    connection.execute("SAVEPOINT renewal")
    try:
        run(connection, *CODE, replacing=True)
    except (errors.ReadOnlySqlTransaction, errors.DiskFull, errors.InsufficientPrivilege) as error:
        connection.execute("ROLLBACK TO renewal")
        because = error.diag.message_primary
        log.warning("functions of the store not replaced by newer ones", store=name, because=because)
    else:
        log.info("functions of the store replaced by newer ones", store=name, number=NUMBER)


def _mend_values(connection: Connection) -> int:
    """Give values that another program has written as text their form, and mark those that do not decode."""
    damaged = 0
    for version, _, value in _values(connection):
        cbor = recovered(value)
        if cbor is None:
            damaged += 1
            connection.execute("UPDATE topic SET checksum = '' WHERE version = %s", (version,))
        elif not value.startswith(MAGIC):
            connection.execute("UPDATE topic SET value = %s WHERE version = %s", (MAGIC + cbor, version))
    return damaged


def _values(connection: Connection) -> Iterator[tuple[int, str, bytes]]:
    after = -(2**63)
    while True:
        rows: Sequence[tuple[int, str, bytes]] = connection.execute(
            _BATCH, (after, PAGE_RECORDS_MAX, PAGE_BYTES_MAX), binary=True
        ).fetchall()
        yield from rows
        if not rows:
            return
        after = rows[-1][0]


def drop_functions(connection: Connection) -> None:
    """Drop all functions of ours, of any layout. Those of others stay, also if they share a name."""
    rows = connection.execute(_OURS, (list(SIGNATURES),)).fetchall()
    if rows:
        connection.execute("DROP FUNCTION " + ", ".join(signature for _, signature in rows))


def _grant(connection: Connection, function: str, role: str | None, *, grantable: bool) -> None:
    arguments = {"publish": ("text, jsonb", "text, jsonb, bigint"), "delete": ("text", "text, bigint")}[function]
    short, long = arguments
    names = f"{function}({short}), {function}({long}), {function}_now({long})"
    # The server has quoted the role.
    connection.execute(
        sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}{}").format(
            sql.SQL(names), sql.SQL(role or "PUBLIC"), sql.SQL(" WITH GRANT OPTION" if grantable else "")
        )
    )
