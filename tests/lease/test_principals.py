"""The index of leases by principal, alone and as the table keeps it."""

from __future__ import annotations

from random import Random

import pytest

from softstate.auth.identity import NOTHING, Identity
from softstate.errors import Overloaded
from softstate.lease import Lease, LeaseTable
from softstate.lease.principals import FULL_RETRY_MS, Principals
from tests.kit.silent_sink import SilentSink


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
    assert len(table.principals) == 0


def test_an_anonymous_lease_is_nobodys() -> None:
    table = LeaseTable(0.0)
    table.grant("t", 0.0, 20, identity=Identity("", "", NOTHING))
    assert len(table.principals) == 0


# Limits --------------------------------------------------------------------------------------------------------------


def _subject(lease: Lease | None) -> str:
    return lease.identity.subject if lease is not None and lease.identity is not None else ""


def limited_table(**limits: int) -> tuple[LeaseTable, list[str]]:
    table, met = LeaseTable(0.0, **limits), list[str]()
    table.principals.limited = lambda limit, lease: met.append(f"{limit} {_subject(lease)}")
    return table, met


def attached(table: LeaseTable, token: str, subject: str, *names: str) -> Lease:
    lease = table.grant(token, 0.0, 20, identity=identity(subject))
    table.attach(lease, SilentSink())
    table.add(lease, names)
    return lease


def test_a_principal_has_so_many_sessions_and_others_do_not_notice() -> None:
    table, met = limited_table(sessions_per_identity_max=3)
    for number in range(3):
        table.check_session(identity("u").digest)
        attached(table, f"u{number}", "u")
    assert not met
    with pytest.raises(Overloaded, match=r"sessions_per_identity_max\) is 3") as caught:
        table.check_session(identity("u").digest)
    assert (caught.value.why, caught.value.retry_ms) == ("sessions_per_identity_max", FULL_RETRY_MS)
    with pytest.raises(Overloaded):
        attached(table, "u3", "u")
    assert met == ["sessions_per_identity_max u"] * 2
    attached(table, "v", "v")
    for number in range(9):
        table.grant(f"a{number}", 0.0, 20, identity=Identity("", "", NOTHING))
    table.release(table.of_principal(identity("u").digest)[0])
    attached(table, "u4", "u")


def test_detached_sessions_of_a_principal_make_room_for_new_ones_the_first_detached_first() -> None:
    table, met = limited_table(sessions_per_identity_max=3)
    leases = [attached(table, f"u{number}", "u") for number in range(3)]
    other = attached(table, "v", "v")
    for now, lease in enumerate((other, leases[1], leases[0])):
        table.expire(now)
        table.detach(lease)
    attached(table, "u3", "u")
    assert [table.get(f"u{number}") is not None for number in range(4)] == [True, False, True, True]
    attached(table, "u4", "u")
    assert table.get("u0") is None
    with pytest.raises(Overloaded):
        attached(table, "u5", "u")
    assert (table.get("v"), table.statistics().given_up, len(met)) == (other, 2, 1)


def test_all_sessions_of_a_principal_hold_so_many_names() -> None:
    table, met = limited_table(subscriptions_per_identity_max=5)
    a, b = attached(table, "a", "u", "1", "2"), attached(table, "b", "u", "1", "2", "3")
    for more in (["4"], ["3", "4"]):
        with pytest.raises(Overloaded, match=r"holds 5 subscriptions .* 1 more") as caught:
            table.add(b, more)
        with pytest.raises(Overloaded):
            table.check_room(b, more)
    assert (caught.value.why, caught.value.retry_ms) == ("subscriptions_per_identity_max", FULL_RETRY_MS)
    assert met == ["subscriptions_per_identity_max u"] * 4
    assert table.add(b, ["1", "3"]) == [], "it holds them"
    attached(table, "v", "v", "1", "2", "3", "4", "5")
    table.remove(a, ["1", "9"])
    table.add(b, ["4"])
    table.release(a)
    table.add(b, ["5"])
    with pytest.raises(Overloaded):
        table.add(b, ["6"])


def test_detached_sessions_of_a_principal_make_room_for_names() -> None:
    table, met = limited_table(subscriptions_per_identity_max=5)
    a, b = attached(table, "a", "u", "1", "2"), attached(table, "b", "u", "3")
    table.detach(a)
    assert table.add(b, ["1", "2"]) == ["1", "2"]
    assert table.get("a") is a
    table.add(b, ["4", "5"])
    assert (table.get("a"), met) == (None, [])


def test_names_are_counted_however_leases_end() -> None:
    random, now = Random(3), 0.0
    table = LeaseTable(0.0, subscriptions_per_identity_max=10**6, sessions_max=40)
    for number in range(2_000):
        now += random.random()
        leases = table.all()
        names = [str(random.randrange(30)) for _ in range(random.randrange(6))]
        match random.choice(["grant", "add", "add", "remove", "release", "expire", "clear"]):
            case "grant" if len(leases) < 40:
                table.grant(str(number), now, 20, identity=identity(random.choice("uv")))
            case "add" if leases:
                table.add(random.choice(leases), names)
            case "remove" if leases:
                table.remove(random.choice(leases), names)
            case "release" if leases:
                table.release(random.choice(leases))
            case "expire":
                table.expire(now)
            case "clear":
                table.clear(leases[: random.randrange(3)])
        for subject in "uv":
            digest = identity(subject).digest
            held = sum(lease.count for lease in table.of_principal(digest))
            assert table.principals.may_hold(digest, 10**6 - held)
            assert not table.principals.may_hold(digest, 10**6 - held + 1)
    table.clear()
    assert not table.principals._names
