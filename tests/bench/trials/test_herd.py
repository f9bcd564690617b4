"""The command ``herd``, with few clients; `tests/simulation/test_schedule_herd.py` tests large herds."""

from __future__ import annotations

import pytest

from bench.__main__ import app


def test_herd_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    app(["herd", "--clients", "20", "--how", "bye"])
    assert capsys.readouterr().out.startswith("20 clients, bye: back p50 ")
