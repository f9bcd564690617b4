"""The one place where PostgreSQL's errors, as psycopg raises them, become softstate's."""

from __future__ import annotations

import re

import psycopg

from softstate.errors import ConfigError, SoftstateError, StoreRefused, StoreRewound, Unavailable

_GONE = frozenset({"3F000", "42P01", "42703", "42883"})
"""No such schema, table, column, function: the statements are right, so these are no longer there."""

POOLED = (
    "a pooler in front of it (PgBouncer, or one like it) gives each transaction another session, and a store needs"
    " sessions of its own: let it pool sessions (PgBouncer: pool_mode = session for this database), or name the server"
    " itself in the URL"
)
"""The refusal of a pooler of transactions, however it was found."""

_POOLED = frozenset({"26000", "42P05", "08P01"})
"""A prepared statement is missing, or is there already; a pooler of statements refuses a transaction, ….

PostgreSQL itself never answers a libpq client so."""

_POOLER_BUSY = r"timeout|login|crash|clos|shut|connect"
"""Errors of PgBouncer that have SQLSTATE 08P01 too, though they say nothing of how it pools."""

_ADVICE = {
    "25P03": "this process was stopped, or too slow, in the middle of a commit, which was rolled back: see its load",
    "25P04": "its transaction_timeout ended a commit, which was rolled back: set it to 0 for this user",
    "2BP01": "objects of others (triggers, views) depend on the store's functions or tables: drop those first, and make"
    " them again afterwards",
    "54000": "a row is larger than an index or a limit of it takes: were tables or indexes changed by hand?",
    "25006": "it takes no writes: it is a standby, or was made read-only; name the primary, or see why (a full disk?)",
    "08P01": "a pooler in front of it (PgBouncer, or one like it) has no session for us: see its log and its limits",
    "40P01": "two transactions waited for each other: call publish_now last in yours",
    "42501": "this user lacks a privilege: let the owner of the schema grant it, or name another user",
    "53100": "its disk is full: make room",
    "53200": "it is out of memory: see its log",
    "53300": "it has no connection left: raise max_connections, or close others",
    "55P03": "another transaction has called publish_now (or publish with three arguments) and not ended since: look"
    " for it in pg_stat_activity, and let applications publish with two arguments, or last in their transactions; or a"
    " COMMIT that notifies waits for a synchronous standby (wait_event SyncRep there), and all others behind it: see to"
    " the standby",
    "57014": "a statement took too long, or was cancelled: see its log",
    "57P01": "it is shutting down, or an administrator ended the connection: it will be replaced",
    "57P02": "it has crashed, and recovers: see its log",
    "57P03": "it is starting up or recovering: wait",
}
"""By SQLSTATE: advice on an error that may pass."""

_ADVICE_BY_CLASS = {
    "08": "the connection failed: it will be replaced",
    "22": "a row is not as softstate writes it: were tables edited by hand?",
    "23": "its tables contradict each other: were they edited by hand, or is a backup being restored at this moment?",
    "53": "it is out of resources: see its log",
    "57": "it was interrupted: see its log",
    "58": "its system failed: see its log",
    "XX": "it reports an error of its own, or damaged data: see its log",
}

_CREDENTIALS_ADVICE = (
    "give the right user and password: in the URL, as password_file=…, as password_env=…, in PGPASSWORD or ~/.pgpass"
)

_TLS_BROKEN = r"SSL.*(SYSCALL|unexpected|reset by peer|timed out|timeout)"
"""Errors of TLS that say nothing of its settings: the connection broke, as it may without TLS."""

_REFUSALS = (
    (r"password authentication failed|no password supplied", _CREDENTIALS_ADVICE),
    (r"authentication failed|no pg_hba\.conf entry|pg_hba\.conf rejects", "allow this user and host in pg_hba.conf"),
    (r'role ".*" does not exist', "create the user (createuser), or name another"),
    (r'database ".*" does not exist', "create the database (createdb), or name another"),
    (r"permission denied for database|is not permitted to log in", "let its owner grant CONNECT, or name another user"),
    (r"certificate|SSL|sslmode|channel binding", "see sslmode, sslrootcert and channel_binding in the URL"),
)
"""Errors of a server or libpq before there is a connection, which come as text only, and advice.

libpq gives no SQLSTATE there, and a server may speak another language: then it counts as something that may pass.
"""


def explain(error: psycopg.Error, name: str, *, opening: bool) -> SoftstateError:
    """Return the error to raise for one of psycopg's. `opening`: one that waiting cannot mend is a refusal.

    psycopg's messages name hosts, users and databases, never a password.
    """
    state = error.sqlstate
    said = " ".join(str(error).split())
    if state is None:
        return _unconnected(error, said, name, opening=opening)
    if state in _POOLED and not (state == "08P01" and re.search(_POOLER_BUSY, said)):
        return (StoreRefused if opening else Unavailable)(f"{name}: {said}: {POOLED}")
    if state in _GONE and not opening:
        return StoreRewound(f"{name}: its tables are gone ({said}): the store was wiped or replaced; reopen it")
    advice = _ADVICE.get(state) or _ADVICE_BY_CLASS.get(state[:2], "unexpected: please report this")
    if opening and state in {"2BP01", "42501", *_GONE}:
        return StoreRefused(f"{name}: {said}: {advice}")
    return Unavailable(f"{name}: {said}: {advice}")


def _unconnected(error: psycopg.Error, said: str, name: str, *, opening: bool) -> SoftstateError:
    if isinstance(error, psycopg.ProgrammingError) and opening:
        return ConfigError(f"store {name}: {said}")
    # One line, or a few, for each host that was tried.
    lines = [line for line in str(error).splitlines() if not re.search(_TLS_BROKEN, line, re.IGNORECASE)]
    for pattern, advice in _REFUSALS:
        if any(re.search(pattern, line) for line in lines):
            return (StoreRefused if opening else Unavailable)(f"{name}: {said}: {advice}")
    return Unavailable(f"{name}: {said}")
