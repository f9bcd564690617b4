"""Every conformance trace, replayed by the machine in JavaScript; each row of its table is seen by one of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from softstate.client.machine.table import ROWS
from softstate.testing.conformance.client.trace import FOLDER, load_all
from softstate.web.table import IGNORED_JS, TABLE_JS, ignored_js, table_js
from tests.kit.node_js import WEB, node_js

TRACES = load_all()

COVERED = {cell for trace in TRACES for cell in trace.header["covers"]}

ROWS_COVERED = [
    number
    for number, (modes, triggers, *_) in enumerate(ROWS)
    if any(f"row:{mode}/{trigger.name}" in COVERED for mode in modes for trigger in triggers)
]


def test_the_table_is_the_one_that_python_runs() -> None:
    again = "run: python -m softstate.web.table"
    assert TABLE_JS.read_text() == table_js(), again
    assert IGNORED_JS.read_text() == ignored_js(), again


def test_every_trace_is_replayed_and_sees_each_row() -> None:
    """Node.js replays them all: with the table as it is, then once for each row with that one broken."""
    assert TRACES
    command = [
        node_js(),
        str(Path(__file__).with_name("replay.js")),
        WEB.as_uri(),
        str(FOLDER),
        json.dumps(ROWS_COVERED),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["differences"] == []
    assert found["replayed"] == len(TRACES)
    assert found["unseen"] == [], "no trace fails though these rows are broken: add one"


def test_every_row_has_a_trace() -> None:
    assert set(range(len(ROWS))) == set(ROWS_COVERED)
