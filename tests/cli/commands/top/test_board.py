"""The state of several nodes over time: rates between two looks, and the age of what is known of one that is down."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from softstate.cli.commands.top.board import Board, together
from softstate.cli.commands.top.picture import COLUMNS, cells, headline, picture

A, B = "ws://a:8700", "ws://b:8700"
AGES = {"ages": 3, "never": 0, "age_p50_s": 0.5, "age_p99_s": 1.4, "age_max_s": 2.0, "modes": {"live": 3, "polling": 0}}


def told(**fields: Any) -> dict[str, Any]:
    return {
        "node": "n-a1c3d5", "store": "postgres:", "durability": "durable", "store_state": "ok", "revision": 81_223,
        "sessions": 4_731, "polling": 22, "congested": 2, "memory_bytes": 131 << 20, "deliveries": 1_000,
        "publishes": 50, "repairs": {"expired": 1, "skipped": 2}, "clients": AGES, **fields,
    }  # fmt: skip


def test_rates_are_those_between_the_last_two_looks() -> None:
    board = Board([A])
    board.take(10.0, A, told())
    (row,) = board.rows(10.0)
    assert row.rates == {"deliveries_per_s": None, "publishes_per_s": None}
    board.take(12.0, A, told(deliveries=2_000, publishes=50))
    (row,) = board.rows(12.0)
    assert row.rates == {"deliveries_per_s": 500.0, "publishes_per_s": 0.0}


def test_a_node_that_was_started_again_has_no_rates_yet() -> None:
    board = Board([A])
    board.take(10.0, A, told())
    board.take(11.0, A, told(node="n-other", deliveries=5))
    (row,) = board.rows(11.0)
    assert set(row.rates.values()) == {None}
    board.take(12.0, A, told(node="n-other", deliveries=9))
    assert board.rows(12.0)[0].rates["deliveries_per_s"] == 4.0


def test_a_node_that_is_down_keeps_what_is_known_with_its_age() -> None:
    board = Board([A, B, A])
    board.take(10.0, A, told())
    board.take(10.0, B, None, "refused")
    board.take(17.5, A, None, "it does not answer")
    first, second = board.rows(17.5)
    assert (first.up, first.age_s, first.error, first.told["sessions"]) == (False, 7.5, "it does not answer", 4_731)
    assert (second.up, second.age_s, second.error) == (False, None, "refused")
    assert first.fields()["known_age_s"] == 7.5
    assert second.fields()["known_age_s"] is None
    assert (cells(first)[0], cells(second)[0]) == ("n-a1c3", "?")
    output = io.StringIO()
    Console(width=80, file=output).print(picture([first, second]))
    assert "DOWN  ws://a:8700, seen 7.5 s ago: it does not answer\n" in output.getvalue()
    assert "…" not in output.getvalue()
    board.take(18.0, A, told())
    assert board.rows(18.0)[0].up


def test_nodes_that_answer_are_added_up_and_the_worst_age_counts() -> None:
    board = Board([A, B])
    board.take(1.0, A, told())
    board.take(1.0, B, told(node="n-b", sessions=1, revision=81_220, clients={**AGES, "age_p99_s": 9.0}))
    all_of = together(board.rows(1.0))
    assert (all_of["nodes_up"], all_of["sessions"], all_of["revision"], all_of["age_p99_s"]) == (2, 4_732, 81_223, 9.0)
    assert all_of["modes"] == {"live": 6, "polling": 0}
    board.take(2.0, B, None, "gone")
    assert together(board.rows(2.0))["age_p99_s"] == 1.4


def test_a_node_that_tells_no_ages_is_shown_without() -> None:
    board = Board([A])
    board.take(1.0, A, {"node": "old"})
    assert cells(board.rows(1.0)[0])[2:] == ["-"] * (len(COLUMNS) - 2)
    assert "client age p99 unknown" in headline(board.rows(1.0))


def test_the_picture_has_all_and_nothing_that_a_terminal_would_obey() -> None:
    board = Board([A, B])
    board.take(1.0, A, told(store="x\x1b[31m[bold]"))
    board.take(1.0, B, None, "refused: [red]\x1b]0;x")
    output = io.StringIO()
    Console(width=200, file=output).print(picture(board.rows(1.0)))
    text = output.getvalue()
    assert "1 of 2 nodes" in text
    assert "client age p99 1.4 s, max 2.0 s  live 3" in text
    assert " 131\n" in text
    assert "refused: [red]\\u001b]0;x" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("down", [0, 1])
def test_a_store_that_is_down_is_said(down: int) -> None:
    board = Board([A])
    board.take(1.0, A, told(store_state="down" if down else "ok"))
    assert ("DOWN for 1" in headline(board.rows(1.0))) is bool(down)
