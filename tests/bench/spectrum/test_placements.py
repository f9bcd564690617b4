"""Placements of session state: the mirror of a lease table, and a node that starts with it."""

from __future__ import annotations

from bench.spectrum.placements import Mirror, placed_in


def test_an_external_mirror_has_what_the_table_holds_until_it_expires() -> None:
    now = [0.0]
    mirror = Mirror(False, lambda: now[0])
    table = placed_in(mirror)(0.0)
    kept, left = (table.grant(token, 0.0, 60.0) for token in ("kept", "left"))
    table.add(kept, ["a", "b"])
    table.add(kept, ["a"])
    table.remove(kept, ["b", "c"])
    table.extend(kept, 10.0)
    table.release(left)
    assert dict(mirror.operations) == {"load": 0, "grant": 2, "add": 1, "remove": 1, "extend": 1, "release": 1}
    again = placed_in(mirror)(0.0)
    found = again.get("kept")
    assert found is not None
    assert list(found.names) == ["a"]
    assert again.statistics().detached == 1
    now[0] = 100.0
    assert len(placed_in(mirror)(0.0)) == 0


def test_durable_sessions_have_no_end_and_a_queue_each() -> None:
    mirror = Mirror(True, lambda: 1e9)
    table = placed_in(mirror)(0.0)
    lease = table.grant("s", 0.0, 60.0)
    table.add(lease, ["t"])
    table.extend(lease, 10.0)
    assert table.expire(1_000.0) == []
    assert table.next_expire_s(1_000.0) > 0
    table.reached("t")
    assert (mirror.operations["queue"], mirror.operations["unqueue"], mirror.operations["extend"]) == (1, 0, 0)
    assert list(placed_in(mirror)(0.0).all()[0].names) == ["t"]
