"""The index of leases by principal, alone and as the table keeps it."""

from __future__ import annotations

from random import Random

from softstate.auth.identity import NOTHING, Identity
from softstate.lease import Lease, LeaseTable
from softstate.lease.principals import Principals


def identity(subject: str) -> Identity:
    return Identity("issuer", subject, NOTHING)


def test_leases_come_and_go() -> None:
    held: Principals[str] = Principals()
    assert (list(held.of("u")), len(held)) == ([], 0)
    for lease in ("a", "b", "c"):
        held.add("u", lease)
    held.add("v", "d")
    assert list(held.of("u")) == ["a", "b", "c"]
    held.remove("u", "b")
    held.remove("u", "a")
    assert (list(held.of("u")), list(held.of("v"))) == (["c"], ["d"])
    held.remove("u", "c")
    held.remove("v", "d")
    assert len(held) == 0


def test_what_was_returned_may_be_removed_meanwhile() -> None:
    held: Principals[str] = Principals()
    held.add("u", "a")
    held.add("u", "b")
    for lease in held.of("u"):
        held.remove("u", lease)
    assert len(held) == 0


def test_a_table_knows_whose_leases_it_holds_however_they_end() -> None:
    random, now = Random(7), 0.0
    table = LeaseTable(0.0, sessions_max=40)
    model: dict[Lease, str] = {}
    for number in range(3_000):
        now += random.random()
        match random.choice(["grant", "grant", "release", "expire", "clear", "detach"]):
            case "grant":
                subject = random.choice(["", "u", "v", "w"])
                if len(model) < 40:
                    lease = table.grant(str(number), now, 20, identity=identity(subject) if subject else None)
                    model[lease] = subject
            case "release" if model:
                lease = random.choice(list(model))
                table.release(lease)
                table.release(lease)
                del model[lease]
            case "expire":
                for lease in table.expire(now):
                    del model[lease]
            case "clear" if random.random() < 0.1:
                for lease in table.clear(random.sample(list(model), len(model) // 2)):
                    del model[lease]
            case "detach" if model:
                table.detach(random.choice(list(model)))
                model = {lease: subject for lease, subject in model.items() if table.get(lease.token) is lease}
        for subject in ("u", "v", "w"):
            assert set(table.of_principal(identity(subject).digest)) == {
                lease for lease, whose in model.items() if whose == subject
            }
        assert set(table.all()) == set(model)
    table.clear()
    assert len(table._principals) == 0


def test_an_anonymous_lease_is_nobodys() -> None:
    table = LeaseTable(0.0)
    table.grant("t", 0.0, 20, identity=Identity("", "", NOTHING))
    assert len(table._principals) == 0
