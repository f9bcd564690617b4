"""The SQL of `softstate/auth/README.md`: an application on PostgreSQL revokes a subject in its own transaction."""

from __future__ import annotations

import re
import time
from pathlib import Path

import trio

from softstate.auth.revocations import REVOKED, revocation_of, subject_topic
from softstate.model import Query
from softstate.testing.conformance.stage import put
from tests.store.engines.postgres_rig import PostgresBackend

README = Path(__file__).parents[3] / "softstate" / "auth" / "README.md"
ISSUER = "https://id.example"
SUBJECTS = [*(f"u{number}" for number in range(20)), "Zo\u00eb \u03a9"]
"""Enough for digests with each character that base64 and base64url write otherwise."""


async def test_the_sql_of_the_page_revokes_a_subject(backend: PostgresBackend) -> None:
    (statements,) = re.findall(r"^```sql\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert statements.count("'u1'") == 2
    statements = statements.replace("softstate.publish", f'"{backend.schema}".publish')
    store = await backend.open()

    def close_accounts() -> None:
        with backend.connect() as connection:
            connection.autocommit = True
            connection.execute("CREATE TEMP TABLE users (id text, closed boolean)")
            for subject in SUBJECTS:
                connection.execute(statements.replace("'u1'", f"'{subject}'").encode())

    begun = time.time()
    await trio.to_thread.run_sync(close_accounts)
    await put(store, "another")
    (page,) = await store.read([Query(prefixes={REVOKED: 0})])
    assert not isinstance(page, Exception)
    found = {record.topic: revocation_of(record) for record in page.records}
    assert found.keys() == {subject_topic(ISSUER, subject) for subject in SUBJECTS}
    for revocation in found.values():
        assert revocation is not None
        assert begun - 60 < revocation.before < begun + 600
        assert round(revocation.until - revocation.before) == 86_400
        assert revocation.reason == "account closed"
