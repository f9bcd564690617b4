from dataclasses import replace

import pytest

from softstate.auth.identity import NARROW_MAX, Grant, Identity, Reach, reach_of
from softstate.auth.narrowing import NARROWED_MAX, narrowed
from softstate.auth.open_authority import EVERYBODY_MAY_ALL
from softstate.auth.patterns import pattern_of


def reach(*patterns: str) -> Reach:
    return reach_of(tuple(map(pattern_of, patterns)))


@pytest.mark.parametrize(
    ("patterns", "name", "covered"),
    [
        (["orders/42"], "orders/42", True),
        (["orders/42"], "orders/42/", False),
        (["orders/42"], "orders/43", False),
        (["orders/"], "orders/42", True),
        (["orders/"], "orders/42/x", True),
        (["orders/"], "orders/42/", True),
        (["orders/"], "orders/", True),
        (["orders/"], "orders", False),
        (["orders/"], "/", False),
        (["/"], "/", True),
        (["/"], "a/", True),
        (["/"], "$x", False),
        (["/"], "$x/", False),
        (["$x/"], "$x/y", True),
        (["rooms/*/status"], "rooms/7/status", True),
        (["rooms/*/status"], "rooms/7/8/status", False),
        (["rooms/*/"], "rooms/7/", True),
        (["rooms/*/"], "rooms/7", False),
        (["rooms/*/"], "rooms/", False),
        (["*/"], "$x/y", False),
        (["*"], "$x", False),
        (["*"], "x", True),
        (["a/", "b/"], "/", False),
        ([f"t{i}/" for i in range(100)], "t77/x", True),
        ([f"t{i}/" for i in range(100)], "t100/x", False),
    ],
)
def test_a_name_is_covered_by_one_pattern_or_not_at_all(patterns: list[str], name: str, covered: bool) -> None:
    assert Grant(read=reach(*patterns)).may_read(name) is covered
    assert Grant(write=reach(*patterns)).may_write(name) is covered
    assert Grant(read=reach(*patterns)).unreadable([name]) == ([] if covered else [name])


@pytest.mark.parametrize("name", ["$softstate", "$softstate/", "$softstate/revoked/sub/x"])
def test_reserved_names_are_an_administrators(name: str) -> None:
    grant = Grant(read=reach("$softstate/", "/"), write=reach("$softstate/", "/"))
    assert not grant.may_read(name)
    assert not grant.may_write(name)
    assert grant.unreadable([name]) == [name]
    assert Grant(admin=True).unreadable([name]) == []
    assert Grant(admin=True).may_read(name)
    assert Grant(admin=True).may_write(name)


def test_a_topic_that_is_none_may_not_be_read() -> None:
    assert Grant(read=reach("a/")).unreadable(["a/b", ""]) == [""]


def test_other_names_that_begin_likewise_are_not_reserved() -> None:
    assert Grant(read=reach("$softstates/")).may_read("$softstates/x")


@pytest.mark.parametrize(
    ("patterns", "prefix", "names"),
    [
        (["orders/u1/"], "orders/", ("orders/u1/",)),
        (["orders/u1/", "orders/u1/x", "orders/7", "a/"], "orders/", ("orders/7", "orders/u1/")),
        (["orders/u1/"], "/", ("orders/u1/",)),
        (["orders/*/"], "orders/", ()),
        (["*/u1/"], "orders/", ("orders/u1/",)),
        (["*/u1/"], "*/", ()),
        (["orders/"], "other/", ()),
        (["$softstate/x/", "$x/"], "/", ()),
        (["orders/u1/"], "orders/7", ()),
        (["*/*/x"], "orders/", ()),
        (["*/u1/x", "orders/u1/"], "orders/", ("orders/u1/",)),
        (["*/u1/", "*/u1/x/"], "orders/", ("orders/u1/",)),
        (["*/u1"], "/", ()),
    ],
)
def test_narrow_tells_names_of_the_grant_below_a_prefix(
    patterns: list[str], prefix: str, names: tuple[str, ...]
) -> None:
    grant = Grant(read=reach(*patterns))
    assert grant.narrow(prefix) == names
    assert all(grant.may_read(name) for name in names)


def test_narrow_tells_few() -> None:
    assert len(Grant(read=reach(*(f"a/{i}" for i in range(100)))).narrow("a/")) == NARROW_MAX


def test_of_many_denied_prefixes_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs as much as the grant has names: a request for 10,000 that have nothing below took 0.1 s of a turn."""
    looked: list[str] = []

    def narrow(_grant: Grant, prefix: str) -> tuple[str, ...]:
        looked.append(prefix)
        return ()

    monkeypatch.setattr(Grant, "narrow", narrow)
    assert narrowed(Grant(), [f"p{number}/" for number in range(NARROWED_MAX + 1)]) == {}
    assert len(looked) == NARROWED_MAX


def test_without_rules_everybody_may_all() -> None:
    for token in (None, "", "x"):
        identity = EVERYBODY_MAY_ALL.identify(token, 0.0, 0.0)
        assert identity.is_anonymous
        assert identity.grant.may_read("/")
        assert identity.grant.may_write("$softstate/x")
        assert EVERYBODY_MAY_ALL.again(identity, 1e9) is identity


def test_a_principal_is_issuer_and_subject() -> None:
    assert Identity("i", "s", Grant()).principal == ("i", "s")
    assert not Identity("i", "s", Grant()).is_anonymous


def test_the_digest_of_a_principal_is_worked_out_once() -> None:
    one = Identity("i", "s", Grant())
    assert one.digest == Identity("i", "s", Grant(admin=True)).digest != Identity("i", "t", Grant()).digest
    assert one.digest is one.digest
    assert one.judged(Grant(), 1.0, 2).digest is one.digest
    assert one == Identity("i", "s", Grant())
    assert replace(one, subject="t").digest == Identity("i", "t", Grant()).digest
