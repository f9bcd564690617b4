"""Every cell of the client's table is shown by some trace: rows run, and ignored cells are met."""

from __future__ import annotations

import pytest

from softstate.client.machine.table import IGNORED, TABLE
from softstate.client.machine.triggers import Trigger
from softstate.model import Mode
from softstate.testing.conformance.client.cells import MEANINGS, cell_name, cells_of, covered
from softstate.testing.conformance.client.trace import Trace, load_all

TRACES = load_all()
FOUND = {cell for trace in TRACES for cell in cells_of(trace)}


@pytest.mark.parametrize("cell", TABLE, ids=lambda cell: cell_name(*cell))
def test_a_row_runs_in_some_trace(cell: tuple[Mode, Trigger]) -> None:
    assert any(f"row:{cell_name(*cell)}" in trace.header["covers"] for trace in TRACES)


@pytest.mark.parametrize("cell", IGNORED, ids=lambda cell: cell_name(*cell))
def test_an_ignored_cell_is_met_in_some_trace(cell: tuple[Mode, Trigger]) -> None:
    assert cell_name(*cell) in FOUND


def test_every_trigger_is_told_by_something() -> None:
    assert set(MEANINGS) == set(Trigger)


def test_a_row_is_covered_where_it_ran_and_an_ignored_cell_where_it_was_met() -> None:
    step = {"event": "lost", "conn": 1, "code": None, "reason": "cut", "cells": ["live/LOST"], "mode": "polling"}
    late = {"event": "opened", "mode": "polling"}
    trace = Trace({"trace": "x"}, [{**step, "mode": "live", "cells": []}, step, late])
    assert covered(trace) == ["row:live/LOST"]
    assert list(cells_of(trace)) == [
        "closed/REFUSED",
        "closed/LOST",
        "live/LOST",
        "live/REFUSED",
        "polling/OPENED",
        "polling/OPENED_FOR_POLLING",
    ]
