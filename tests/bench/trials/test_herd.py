"""The command ``herd``, with few clients; `tests/simulation/test_schedule_herd.py` tests large herds."""

from __future__ import annotations

import gc
import math

import pytest

from bench.__main__ import app
from bench.trials.herd import TTL_MS, Herd, Plan


def test_herd_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    app(["herd", "--clients", "20", "--how", "bye"])
    assert capsys.readouterr().out.startswith("20 clients, bye: back p50 ")


def test_clients_that_are_back_are_left_alone_and_garbage_is_collected_again() -> None:
    herd = Herd(
        Plan(clients=150, handshake_s=0.1, known_per_s=10, down_s=0.0)
    )  # the last is back after a renewal's time
    report = herd.run()
    assert report.last_s > 1.2 * TTL_MS / 3_000 > report.back(0.1)
    assert all(client.due == math.inf for client in herd._clients)
    assert gc.isenabled()
