"""Looking for what is wrong with the rows that no answer shows: for `softstate store check`."""

from __future__ import annotations

from collections.abc import Sequence

from softstate.store.postgres.connection import Connection

_QUESTIONS = (
    (
        "SELECT count(*) FROM topic WHERE topic_fault(topic) IS NOT NULL",
        (
            "{} rows of topic have a name that is no topic, so no one is served them: see which topics are missing, and"
            " publish them, or restore a backup"
        ),
    ),
    (
        (
            "SELECT count(*) FROM idempotency"
            " WHERE checksum IS DISTINCT FROM key_checksum(topic, key, version, digest) OR version > %s"
        ),
        "{} rows of idempotency are damaged and count as absent: a repeat of those requests would be applied again",
    ),
    (
        (
            "SELECT count(*) FROM publisher"
            " WHERE checksum IS DISTINCT FROM publisher_checksum(publisher, settled, touched, uses) OR touched > %s"
        ),
        "{} rows of publisher are damaged and count as absent: a repeat of their requests would be applied again",
    ),
    (
        "SELECT count(*) FROM refused",
        "{} entries of the inbox were refused: see the table refused for the reasons, and empty it",
    ),
)


def audit(connection: Connection, head: int) -> Sequence[str]:
    """Return what is wrong beside topics that cannot be read, each a sentence with what to do."""
    connection.execute("SET LOCAL statement_timeout = 0")
    found: list[str] = []
    for question, sentence in _QUESTIONS:
        row = connection.execute(question.encode(), (head,) if "%s" in question else None).fetchone()
        assert row is not None
        if row[0]:
            found.append(sentence.format(row[0]))
    return found
