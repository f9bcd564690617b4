"""Answers of a callout about names: what is asked, for how long answers hold, and what a failure leaves of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from softstate.auth import name_answers as module
from softstate.auth.answers import AGAIN_S, CalloutTimes, Waiter
from softstate.auth.asked import AllowedNames, NameAction
from softstate.auth.authority import RulesAuthority
from softstate.auth.identity import NOTHING as NO_GRANT, Identity
from softstate.auth.name_answers import NAMES_PER_QUESTION, Book, NameAnswers, NamesUnasked, Settled
from softstate.auth.policy_file import read_policy
from softstate.auth.rules import Known
from softstate.errors import Overloaded, RequestError, Unavailable
from tests.auth.tokens import NOW, WALL, HmacKey, token

TTL_S, STALE_S = 60.0, 300.0
U1, U2 = Identity("i", "u1", NO_GRANT), Identity("i", "u2", NO_GRANT)


class Rig:
    """Answers, and what they told; `held` are the names that leases hold."""

    def __init__(self) -> None:
        self.answers = NameAnswers(lambda _identity: self.known)
        self.answers.configure(CalloutTimes(TTL_S, STALE_S, 2.0), 4, active=True)
        self.answers.changed = lambda principal, held: self.changed.append((principal, held))
        self.answers.lost = lambda principal, names: self.lost.append((principal, sorted(names)))
        self.answers.held = lambda _principal: self.held.__contains__
        self.known: Known | None = Known("i", "u1")
        self.held: set[str] = set()
        self.changed: list[tuple[str, bool]] = []
        self.lost: list[tuple[str, list[str]]] = []
        self.told: list[RequestError | None] = []
        self.allowed = self.answers.allowed_of(U1.digest)

    def may(self, name: str, action: NameAction = "read", identity: Identity = U1) -> bool:
        return self.answers.allowed_of(identity.digest).covers(action, name)

    def ask(self, *names: str, now: float = 0.0, action: NameAction = "read", identity: Identity = U1) -> list[str]:
        """Ask about those names that have to be asked about, and return these."""
        unasked = self.answers.unasked(identity, action, names, now)
        if unasked:
            waiter = Waiter(self.told.append, lambda: None)
            self.answers.ask(NamesUnasked(identity, action, unasked), "peer", waiter, now)
        return unasked

    def tell(self, settled: Settled) -> None:
        for waiter, error in settled:
            waiter.settled(error)

    def due(self) -> Book:
        book = self.answers.next_due()
        assert book is not None
        return book

    def got(self, *allowed: bool, now: float = 0.0, ttl_s: float = TTL_S) -> None:
        self.tell(self.answers.got(self.due(), allowed, ttl_s, now))

    def failed(self, now: float) -> None:
        self.tell(self.answers.failed(self.due(), "down", now))

    def lapse(self, now: float) -> None:
        for _ in self.answers.lapse(now):
            pass


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_name_is_asked_about_once_and_is_allowed_if_the_answer_says_so(rig: Rig) -> None:
    assert rig.ask("a", "b/", "c") == ["a", "b/", "c"]
    rig.got(True, True, False)
    assert rig.told == [None]
    assert [rig.may(name) for name in ("a", "b/", "b/x", "c", "a/x")] == [True, True, True, False, False]
    assert not rig.may("a", "write")
    assert not rig.may("a", identity=U2)
    assert rig.answers.unasked(U1, "read", ["c"], TTL_S - 1) == [], "it was refused"
    assert rig.answers.next_due() is None


def test_nobody_is_allowed_what_was_not_answered(rig: Rig) -> None:
    rig.ask("a")
    assert not rig.may("a")
    rig.failed(0.5)
    (error,) = rig.told
    assert isinstance(error, Unavailable)
    assert (error.retry_ms, rig.may("a"), rig.answers.count) == (1_000, False, 0)
    assert rig.ask("a", now=1.0) == ["a"], "it is not refused either"


def test_all_questions_of_a_principal_are_one_and_others_go_out_beside_it(rig: Rig) -> None:
    rig.ask("a")
    rig.ask("a", "b")
    rig.ask("a", identity=U2)
    book = rig.due()
    assert [name for _, name in book.asking] == ["a", "b"]
    assert rig.due().subject == "u2"
    rig.ask("a", "c")
    assert rig.answers.next_due() is None, "one question of a principal at a time"
    rig.tell(rig.answers.got(book, [True, True], TTL_S, 0.0))
    assert rig.told == [None, None]
    assert rig.due().asking == (("read", "c"),)


def test_a_question_has_so_many_names_and_who_waits_is_told_when_all_are_answered(rig: Rig) -> None:
    names = [str(number) for number in range(NAMES_PER_QUESTION + 1)]
    rig.ask(*names)
    rig.got(*[False] * NAMES_PER_QUESTION, ttl_s=1.0)
    assert rig.told == []
    rig.got(True, now=5.0)
    assert rig.told == [None], "also if the first answers are over by then"


def test_a_request_asks_about_so_many_names_at_a_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNASKED_MAX", 2)
    assert rig.ask("a", "b", "c") == ["a", "b"]
    rig.got(False, False)
    assert rig.ask("a", "b", "c") == ["c"]


def test_so_many_questions_are_on_their_way_at_once(rig: Rig) -> None:
    for number in range(5):
        rig.ask("a", identity=Identity("i", str(number), NO_GRANT))
    assert [rig.answers.next_due() is not None for _ in range(5)] == [True] * 4 + [False]


def test_who_has_waited_too_long_to_be_asked_about_is_told(rig: Rig) -> None:
    rig.ask("a")
    assert rig.answers.due_at() == 2.0
    (book,) = rig.answers.late(2.0)
    rig.tell(rig.answers.failed(book, "too many", 2.0))
    assert isinstance(rig.told[0], Unavailable)
    assert rig.answers.inflight == 0
    assert rig.answers.next_due() is None


def test_what_a_lease_holds_is_asked_about_again_when_its_answer_ends_and_holds_until_that_is_answered(
    rig: Rig,
) -> None:
    rig.held = {"a"}
    rig.ask("a", "b")
    rig.got(True, True)
    rig.ask("w", action="write")
    rig.got(True)
    rig.lapse(TTL_S - 0.1)
    assert rig.answers.next_due() is None
    rig.lapse(TTL_S)
    assert (rig.may("a"), rig.may("b"), rig.may("w", "write")) == (True, False, False)
    assert rig.changed == [(U1.digest, False)], "what was judged by them is judged again"
    book = rig.due()
    assert book.asking == (("read", "a"),)
    rig.tell(rig.answers.got(book, [True], TTL_S, TTL_S + 1))
    rig.lapse(2 * TTL_S)
    assert rig.answers.next_due() is None
    rig.lapse(2 * TTL_S + 1)
    rig.got(False, now=2 * TTL_S + 2)
    assert not rig.may("a")
    assert rig.changed[1:] == [(U1.digest, True)]
    assert rig.lost == []


def test_a_name_that_is_not_allowed_any_more_changes_the_grant_and_others_stay(rig: Rig) -> None:
    rig.held = {"a", "b"}
    rig.ask("a", "b")
    rig.got(True, True)
    before = rig.answers.allowed_of(U1.digest)
    assert before is rig.allowed, "names are added in place"
    rig.lapse(TTL_S)
    rig.got(True, False, now=TTL_S)
    after = rig.answers.allowed_of(U1.digest)
    assert after is not before
    assert (after.covers("read", "a"), after.covers("read", "b")) == (True, False)


def test_while_it_fails_names_that_were_allowed_stay_so_for_a_while_and_then_nobody_can_tell(rig: Rig) -> None:
    rig.held = {"a"}
    rig.ask("a")
    rig.got(True)
    rig.lapse(TTL_S)
    rig.failed(TTL_S)
    assert rig.may("a")
    rig.lapse(TTL_S + AGAIN_S - 0.1)
    assert rig.answers.next_due() is None, "it is not asked all the time"
    rig.lapse(TTL_S + AGAIN_S)
    rig.failed(TTL_S + AGAIN_S)
    assert (rig.may("a"), rig.lost) == (True, [])
    rig.lapse(TTL_S + STALE_S)
    assert (rig.may("a"), rig.lost) == (False, [(U1.digest, ["a"])])
    assert rig.answers.count == 0
    assert rig.ask("a", now=TTL_S + STALE_S) == ["a"]


def test_a_failure_when_that_time_is_over_ends_it_too(rig: Rig) -> None:
    rig.held = {"a"}
    rig.ask("a")
    rig.got(True)
    rig.lapse(TTL_S)
    rig.failed(TTL_S + STALE_S)
    assert (rig.may("a"), rig.lost) == (False, [(U1.digest, ["a"])])


def test_a_name_that_no_lease_holds_is_kept_in_case_it_fails(rig: Rig) -> None:
    rig.ask("a", "no")
    rig.got(True, False)
    rig.lapse(TTL_S)
    assert rig.answers.count == 1
    assert rig.ask("a", "no", now=TTL_S + 1) == ["a", "no"]
    rig.failed(TTL_S + 1)
    assert isinstance(rig.told[1], Unavailable), "of the other nobody can tell"
    assert (rig.may("a"), rig.may("no")) == (True, False)
    rig.lapse(TTL_S + 1 + AGAIN_S)
    assert not rig.may("a"), "once it is asked for again"
    rig.lapse(TTL_S + STALE_S)
    assert rig.answers.count == 0
    assert not rig.answers._books


def test_what_is_reserved_beyond_the_ceilings_or_of_nobody_is_not_asked_about(rig: Rig) -> None:
    assert rig.ask("$softstate/revoked/x", "$softstate/") == []
    rig.known = Known("i", "u1", ceiling=("a/", "b/*/", "users/{sub}/"))
    rig.answers.configure(rig.answers.times, 4, ("a/x/", "b/", "users/"), active=True)
    names = ("a/x/1", "a/1", "b/1/2", "b/1", "c", "/", "users/u1/a", "users/u2/a")
    assert rig.ask(*names) == ["a/x/1", "b/1/2", "users/u1/a"]
    assert rig.answers.unasked(Identity("", "", NO_GRANT), "read", ["a/x/1"], 0.0) == []
    rig.known = None
    assert rig.ask("a/x/1") == []
    rig.known = Known("i", "u1")
    rig.answers.configure(rig.answers.times, 4, active=False)
    assert rig.ask("a/x/1") == []


def test_names_that_are_known_by_now_are_told_at_once(rig: Rig) -> None:
    rig.ask("a")
    rig.got(True)
    rig.answers.ask(NamesUnasked(U1, "read", ["a"]), "peer", Waiter(rig.told.append, lambda: None), 1.0)
    assert rig.answers.due_at() < 0
    rig.tell(rig.answers.settled())
    assert rig.told == [None, None]


@pytest.mark.parametrize("limit", ["NAMES_PER_PRINCIPAL_MAX", "NAMES_MAX"])
def test_answers_that_no_lease_needs_make_way_at_the_limit_and_others_do_not(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(module, limit, 3)
    rig.held = {"a", "b"}
    rig.ask("a", "b", "c")
    rig.got(True, True, True)
    rig.ask("d")
    assert (rig.may("b"), rig.may("c"), rig.answers.count) == (True, False, 3)
    assert rig.changed == [(U1.digest, True)]
    rig.got(True)
    rig.held.add("d")
    rig.ask("e")
    rig.tell(rig.answers.settled())
    assert isinstance(rig.told[-1], Overloaded)
    assert "the limit is 3: ask for fewer, or later" in rig.told[-1].message
    assert rig.answers.next_due() is None


def test_names_that_wait_to_be_asked_about_count_from_the_first_moment_and_none_twice(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NAMES_MAX", 3)
    rig.ask("a", "b")
    rig.ask("a", "b", identity=U2)
    rig.tell(rig.answers.settled())
    assert isinstance(rig.told.pop(), Overloaded)
    rig.ask("a", "b", "c")
    assert rig.answers.count == 3
    rig.got(True, True, False)
    assert rig.answers.count == 3
    rig.held = {"a", "b"}
    rig.lapse(TTL_S)
    assert rig.answers.count == 2, "those that are asked about again count once"
    rig.ask("d", now=TTL_S)
    rig.failed(TTL_S)
    assert (rig.answers.count, rig.told.count(None)) == (2, 2)


def test_nothing_is_kept_of_principals_that_are_forgotten(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAMES_MAX", 3)
    for number in range(100):
        rig.ask("a", identity=Identity("i", str(number), NO_GRANT))
        rig.got(False, ttl_s=86_400.0)
    assert len(rig.answers._books) <= 3
    assert len(rig.answers._due) <= 2 * 3 + module.BOOKS_LOOKED_AT


def test_so_many_principals_wait_and_no_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRINCIPALS_WAITING_MAX", 1)
    rig.ask("a")
    rig.ask("a", identity=U2)
    rig.tell(rig.answers.settled())
    assert isinstance(rig.told[0], Overloaded)


@pytest.mark.parametrize("active", [True, False])
def test_another_callout_is_asked_about_what_leases_hold_and_all_else_is_forgotten(rig: Rig, active: bool) -> None:
    rig.held = {"a"}
    rig.ask("a", "b", "c")
    rig.got(True, True, False)
    rig.ask("late")
    rig.answers.configure(CalloutTimes(TTL_S, STALE_S), 4, active=active)
    rig.tell(rig.answers.settled())
    assert isinstance(rig.told[1], Unavailable)
    assert (rig.may("a"), rig.may("b"), rig.answers.count) == (active, False, int(active))
    rig.lapse(0.0)
    if active:
        assert rig.due().asking == (("read", "a"),)
    else:
        assert rig.answers.next_due() is None
        assert not rig.answers._books


def test_an_answer_that_comes_when_it_is_not_wanted_any_more_allows_nothing(rig: Rig) -> None:
    rig.ask("a")
    book = rig.due()
    rig.answers.configure(rig.answers.times, 4, active=False)
    rig.tell(rig.answers.settled())
    rig.tell(rig.answers.failed(book, "there is none any more", 1.0))
    assert (len(rig.told), rig.answers.inflight, rig.answers.count) == (1, 0, 0)
    assert not rig.answers._books


# The authority -------------------------------------------------------------------------------------------------------

POLICY = """
[auth.callout]
url = "https://app.example/who"
secret_file = "s"
for = ["names"]
may_grant = ["org/", "users/{sub}/"]
[[auth.issuer]]
issuer = "https://id"
audience = ["softstate"]
secret_file = "f"
may_grant = ["org/{claim:org}/", "users/"]
[[allow]]
who = "signed-in"
read = ["users/{sub}/public"]
"""


def authority() -> RulesAuthority:
    made = RulesAuthority(read_policy(POLICY, "auth.toml").policy)
    made.keyrings["https://id"]._keys = (HmacKey(),)
    made.names.held = lambda _principal: {"org/acme/a"}.__contains__
    return made


def allow(made: RulesAuthority, identity: Identity, names: Sequence[str], allowed: Sequence[bool], now: float) -> None:
    made.names.ask(NamesUnasked(identity, "read", names), "", Waiter(lambda _error: None, lambda: None), now)
    book = made.names.next_due()
    assert book is not None
    made.names.got(book, allowed, TTL_S, now)


def test_names_that_are_allowed_are_of_the_grant_of_every_session_of_the_principal() -> None:
    made = authority()
    text = token(org="acme", jti="1")
    identity, other = made.identify(text, NOW, WALL), made.identify(token(org="acme", jti="2"), NOW, WALL)
    sub = identity.subject
    names = ["org/acme/a", "org/else/a", f"users/{sub}/x", "users/other/x"]
    assert made.names.unasked(identity, "read", names, NOW) == ["org/acme/a", f"users/{sub}/x"]
    generation = made.generation
    allow(made, identity, ["org/acme/a"], [True], NOW)
    assert made.generation == generation, "what is added has nothing judged again"
    assert identity.grant.may_read("org/acme/a")
    assert other.grant.may_read("org/acme/a")
    assert not identity.grant.may_write("org/acme/a")
    assert made.identify(text, NOW, WALL) is identity


def test_a_name_that_is_lost_raises_the_generation_and_makes_other_grants() -> None:
    made = authority()
    changed: list[str] = []
    made.on_changed = changed.append
    text = token(org="acme")
    identity = made.identify(text, NOW, WALL)
    allow(made, identity, ["org/acme/a", "org/acme/b"], [True, True], NOW)
    generation = made.generation
    for _ in made.names.lapse(NOW + TTL_S):
        pass
    assert (made.generation, changed) == (generation + 1, []), "no lease has lost anything"
    book = made.names.next_due()
    assert book is not None
    made.names.got(book, [False], TTL_S, NOW + TTL_S)
    assert (made.generation, changed) == (generation + 2, [identity.digest])
    judged = made.again(identity, NOW + TTL_S)
    assert judged.grant != identity.grant
    assert not judged.grant.may_read("org/acme/a")
    assert made.again(identity, NOW + TTL_S).grant == made.identify(text, NOW + TTL_S, WALL).grant


def test_rules_that_change_leave_names_as_they_were_and_without_the_callout_there_are_none() -> None:
    made = authority()
    text = token(org="acme")
    identity = made.identify(text, NOW, WALL)
    allow(made, identity, ["org/acme/a"], [True], NOW)
    policy = read_policy(POLICY.replace("public", "open"), "auth.toml").policy
    made.change(policy, {"https://id": made.keyrings["https://id"]})
    judged = made.again(identity, NOW)
    assert judged.grant.may_read("org/acme/a")
    assert judged.grant.may_read(f"users/{judged.subject}/open")
    without = read_policy(POLICY[POLICY.index("[[auth.issuer]]") :], "auth.toml").policy
    made.change(without, {"https://id": made.keyrings["https://id"]})
    assert not made.again(identity, NOW).grant.may_read("org/acme/a")
    assert made.names.unasked(identity, "read", ["org/acme/a"], NOW) == []


def test_allowed_names_are_told_apart_by_what_may_be_done_with_them() -> None:
    names = AllowedNames([("read", "a"), ("write", "b"), ("read", "p/")])
    assert ("read", "a") in names
    assert ("write", "a") not in names
    assert [names.covers(action, name) for action, name in asked("a", "b", "p/q", "$x")] == [
        True, False, False, True, True, False, False, False,
    ]  # fmt: skip
    assert not AllowedNames([("read", "/")]).covers("read", "$x")
    assert AllowedNames([("read", "/")]).covers("read", "x")


def asked(*names: str) -> Collection[tuple[NameAction, str]]:
    both: tuple[NameAction, ...] = ("read", "write")
    return [(action, name) for name in names for action in both]
