"""The tests of each clause of PROTOCOL.md: an index for people, which `test_protocol` keeps true.

Each of its sections has a module here. Tests are named by file and function, transcripts (`softstate/wire/examples`) by
their file.
"""

from tests.wire.clauses.client import CLIENT
from tests.wire.clauses.connections import CONNECTIONS
from tests.wire.clauses.http import HTTP
from tests.wire.clauses.knowledge import KNOWLEDGE
from tests.wire.clauses.permissions import PERMISSIONS
from tests.wire.clauses.publishing import PUBLISHING
from tests.wire.clauses.renewals import RENEWALS
from tests.wire.clauses.resuming import RESUMING
from tests.wire.clauses.rewound import REWOUND
from tests.wire.clauses.streams import STREAMS
from tests.wire.clauses.subscribing import SUBSCRIBING
from tests.wire.clauses.values import VALUES

SECTIONS = (
    VALUES,
    CONNECTIONS,
    SUBSCRIBING,
    RENEWALS,
    KNOWLEDGE,
    RESUMING,
    REWOUND,
    PUBLISHING,
    HTTP,
    CLIENT,
    PERMISSIONS,
    STREAMS,
)
"""The sections in the order of the page."""

CLAUSES = {clause: tests for section in SECTIONS for clause, tests in section.items()}
"""The tests of each clause."""
