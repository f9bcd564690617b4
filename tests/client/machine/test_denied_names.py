"""Names that a node takes away: they leave the set, are reported, and are no repair (P-AUTH-5)."""

from __future__ import annotations

from softstate.client.machine.events import NamesDenied, Narrowing
from softstate.wire.messages import DeniedNames, Notify, Renew, Subscribe
from tests.kit.machine_rig import Rig


def test_names_that_were_lost_leave_the_set_and_are_reported_without_a_repair() -> None:
    rig = Rig("a", "b/")
    rig.live()
    rig.renewing()
    renewal = rig.sent(Renew)[-1]
    rig.arrive(DeniedNames(["b/"], {"b/": ["b/c"]}))
    assert [list(denied.names) for denied in rig.recent(NamesDenied)] == [["b/"]]
    rig.arrive(rig.renewed(id=renewal.id, match=False))
    assert rig.mode == "live"
    (again,) = rig.recently_sent(Renew)
    assert again.count == 1
    rig.arrive(rig.renewed())
    assert rig.mode == "live"
    assert rig.machine.statistics().repairs_mismatch == 0


def test_a_prefix_that_narrows_is_replaced_by_what_may_be_read_below_it() -> None:
    rig = Rig("p/").live()
    rig.do(Narrowing(frozenset({"p/"})))
    rig.arrive(Notify("p/x/1", 13, 1), Notify("p/y", 14, 1))
    rig.arrive(DeniedNames(["p/"], {"p/": ["p/x/", "p/z"]}))
    (denied,) = rig.recent(NamesDenied)
    assert denied.narrow == {"p/": ["p/x/", "p/z"]}
    assert set(rig.machine.describe().names) == {"p/x/", "p/z"}
    (asked,) = rig.recently_sent(Subscribe)
    assert (set(asked.topics), set(asked.prefixes)) == ({"p/z"}, {"p/x/"})
    # It is known still, so nothing of it is told twice, or by a node that is behind.
    assert [change.version for change in rig.machine.known("p/x/")] == [13]
    assert rig.machine.known("p/y") == []
    rig.arrive(DeniedNames(["p/x/"], {"p/x/": ["p/x/2"]}))
    assert set(rig.machine.describe().names) == {"p/x/2", "p/z"}


def test_no_other_prefix_is_replaced_nor_one_that_narrows_no_more() -> None:
    rig = Rig("p/", "q/").live()
    rig.do(Narrowing(frozenset({"q/"})))
    rig.arrive(DeniedNames(["p/"], {"p/": ["p/x/"]}))
    assert set(rig.machine.describe().names) == {"q/"}
    rig.do(Narrowing(frozenset()))
    rig.arrive(DeniedNames(["q/"], {"q/": ["q/x/"]}))
    assert not rig.machine.describe().names
    assert not rig.recently_sent(Subscribe)
