"""Names that a node takes away: they leave the set, are reported, and are no repair (P-AUTH-5)."""

from __future__ import annotations

from softstate.client.machine.events import NamesDenied
from softstate.wire.messages import DeniedNames, Renew
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
