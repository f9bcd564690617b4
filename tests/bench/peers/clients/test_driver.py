"""A driver that answers as it should, and one that ends."""

from __future__ import annotations

import sys

import pytest

from bench.load.process import LoadFailed
from bench.peers.clients.driver import Driver, portions
from bench.peers.clients.records import Application, Noted

ANSWERS = ({"clients": 1}, {"holding": 1}, {"dials": [1.5], "applications": [{"values": {}, "told": [], "ages": []}]})
PROGRAM = f"""
import json, sys
for answer in {ANSWERS!r}:
    print(json.dumps(answer), flush=True)
    print(sys.stdin.readline(), file=sys.stderr)
"""


def test_a_driver_is_asked_what_its_applications_hold_and_noted() -> None:
    with Driver("a driver", [sys.executable, "-c", PROGRAM]) as driver:
        assert driver.until("still", 3, patience_s=1.0) == 1
        assert driver.noted() == Noted([Application({}, [], [])], [1.5])


def test_a_driver_that_ends_is_named() -> None:
    driver = Driver("a driver", [sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(LoadFailed, match="a driver ended with exit code 3"), driver:
        pass


@pytest.mark.parametrize(("clients", "steps", "each"), [(20, 1, [20]), (20, 3, [6, 7, 7]), (2, 10, [1, 1])])
def test_clients_are_opened_in_equal_portions(clients: int, steps: int, each: list[int]) -> None:
    assert portions(clients, steps) == each
