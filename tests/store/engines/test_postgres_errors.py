"""PostgreSQL's errors, as they are told: those that may pass, those that waiting does not mend, and what to do."""

from __future__ import annotations

import psycopg
import pytest

from softstate.errors import StoreRefused, Unavailable
from softstate.store.postgres.errors import explain

TO = 'connection to server at "h" (10.0.0.1), port 5432 failed: '

BROKEN = [
    "SSL SYSCALL error: EOF detected",
    "SSL SYSCALL error: Connection reset by peer",
    "SSL SYSCALL error: Connection timed out",
    "SSL error: unexpected eof while reading",
    "SSL connection has been closed unexpectedly",
    "SSL negotiation failed: timeout expired",
]

WRONG = [
    "SSL error: certificate verify failed",
    "SSL error: tlsv1 alert unknown ca",
    "server does not support SSL, but SSL was required",
    'root certificate file "/root/.postgresql/root.crt" does not exist',
    "channel binding required, but server authenticated client without channel binding",
]


@pytest.mark.parametrize("said", BROKEN)
@pytest.mark.parametrize("opening", [True, False])
def test_a_connection_that_breaks_within_tls_may_pass(said: str, opening: bool) -> None:
    found = explain(psycopg.OperationalError(TO + said), "postgresql://h/d", opening=opening)
    assert type(found) is Unavailable
    assert said in str(found)


@pytest.mark.parametrize("said", WRONG)
@pytest.mark.parametrize("other", ["", f"\n{TO}{BROKEN[0]}", f"\n{TO}{BROKEN[3]}\n\tIs it down?"])
def test_settings_of_tls_that_are_wrong_are_refused(said: str, other: str) -> None:
    """Also if another host has merely broken off."""
    found = explain(psycopg.OperationalError(TO + said + other), "postgresql://h/d", opening=True)
    assert type(found) is StoreRefused
    assert "see sslmode, sslrootcert and channel_binding in the URL" in str(found)


@pytest.mark.parametrize("other", BROKEN)
def test_a_wrong_password_is_refused_beside_a_host_that_breaks_off(other: str) -> None:
    said = f'{TO}{other}\n{TO}FATAL:  password authentication failed for user "me"'
    assert type(explain(psycopg.OperationalError(said), "postgresql://h/d", opening=True)) is StoreRefused


@pytest.mark.parametrize(
    ("state", "kind", "advice"),
    [
        ("25P03", Unavailable, "was stopped, or too slow, in the middle of a commit, which was rolled back: see its"),
        ("25P04", Unavailable, "transaction_timeout ended a commit, which was rolled back: set it to 0 for this user"),
        ("54000", Unavailable, "larger than an index or a limit of it takes: were tables or indexes changed by hand"),
        ("2BP01", StoreRefused, "depend on the store's functions or tables: drop those first, and make them again"),
    ],
)
def test_errors_that_need_an_operator_say_what_to_do(state: str, kind: type[Exception], advice: str) -> None:
    error = psycopg.errors.lookup("XX000")("it says why")
    error.sqlstate = state
    found = explain(error, "postgresql://h/d", opening=True)
    assert type(found) is kind
    assert advice in str(found)
    assert "report this" not in str(found)
