"""The callout: its settings, its questions and answers, and the identities that these make."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from softstate.auth.answers import Answer, Entry, Unasked, Waiter
from softstate.auth.asked import AllowedNames
from softstate.auth.authority import RulesAuthority
from softstate.auth.callout import BadAnswer, Callout, allowed_of, answer_of, names_question, question, signature
from softstate.auth.identity import Identity, Why
from softstate.auth.name_answers import Book
from softstate.auth.policy_file import read_policy
from softstate.auth.revocations import REVOKED, Revocation, Revocations
from softstate.auth.rules import Known
from softstate.errors import ConfigError, Overloaded, Unavailable
from softstate.wire.messages import Reason
from tests.auth.tokens import NOW, WALL, HmacKey, Refused, token

CALLOUT = '[auth.callout]\nurl = "https://app.example/who"\nsecret_file = "callout.secret"\n'
OWN = """
[[allow]]
who = "signed-in"
read = ["users/{sub}/", "org/{claim:org}/"]
[[allow]]
who = {group = "ops"}
admin = true
"""
PLAIN = Callout("https://app.example/who", "s")


def callout_of(content: str) -> Callout:
    found = read_policy(content, "auth.toml").policy.callout
    assert found is not None
    return found


def test_settings_have_defaults() -> None:
    found = callout_of(CALLOUT)
    assert (found.url, found.secret_file, found.inflight_max) == ("https://app.example/who", "callout.secret", 64)
    assert (found.times.ttl_s, found.times.stale_s, found.times.timeout_s) == (60, 300, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "[auth.callout] in auth.toml, line 1 must have 'url'"),
        ('url = "https://a/"', "[auth.callout] in auth.toml, line 1 must have 'secret_file'"),
        ('url = "http://app.example/"', "line 2: 'http://app.example/' cannot be used: it must begin with https://"),
        ('url = "x"', "url of [auth.callout] in auth.toml, line 2: 'x' cannot be used"),
        ("timeout_ms = 5", "timeout_ms of [auth.callout] in auth.toml, line 4 must be a number from 10 to 60000"),
        ("ttl_s = 0", "must be a number from 1 to 86400"),
        ("stale_s = -1", "must be a number from 0 to 86400"),
        ("inflight_max = 0", "must be a number from 1 to 1024"),
        ('for = ["x"]', "for of [auth.callout] in auth.toml, line 4 must hold 'identity', 'names' or both"),
        ("retries = 1", "unknown key retries of [auth.callout] in auth.toml, line 4"),
        ('may_grant = ["a//"]', "may_grant of [auth.callout] in auth.toml, line 4: may_grant[1]"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(content: str, message: str) -> None:
    whole = content if content.startswith("url") or not content else CALLOUT.partition("\n")[2] + content
    with pytest.raises(ConfigError) as caught:
        read_policy("[auth.callout]\n" + whole, "auth.toml")
    assert message in str(caught.value)


def test_no_issuer_may_be_called_as_the_callout_is_and_rules_may_name_it() -> None:
    issuer = '[[auth.issuer]]\nissuer = "callout"\naudience = ["s"]\nsecret_file = "f"\n'
    with pytest.raises(ConfigError, match="must not be 'callout', which stands for subjects that a callout names"):
        read_policy(issuer, "auth.toml")
    rule = '[[allow]]\nwho = {issuer = "callout"}\nread = ["a"]\n'
    assert read_policy(CALLOUT + rule, "auth.toml").policy.allows
    with pytest.raises(ConfigError, match="names 'callout', which is no issuer"):
        read_policy(rule + '[[allow]]\nwho = "anyone"\nread = ["a"]\n', "auth.toml")


def test_a_question_is_signed_with_its_time() -> None:
    body = question("opaque", "192.0.2.1")
    assert json.loads(body) == {"version": 1, "credentials": "opaque", "peer": "192.0.2.1"}
    header = signature(b"k" * 32, 1_700_000_000, body)
    at, _, mac = header.partition(",v1=")
    assert at == "t=1700000000"
    assert mac == hmac.new(b"k" * 32, b"1700000000." + body, "sha256").hexdigest()
    assert signature(b"k" * 32, 1_700_000_001, body) != header


def answered(body: Any, callout: Callout = PLAIN) -> Answer:
    return answer_of(body if isinstance(body, bytes) else json.dumps(body).encode(), callout)


def test_an_answer_says_who_it_is_and_what_that_is_granted() -> None:
    said = {
        "identity": {"subject": "u1", "groups": ["ops"], "claims": {"org": "acme", "n": 1}},
        "read": ["a/"],
        "write": ["b"],
        "ttl_s": 5,
        "later": "more",
    }
    answer = answered(said)
    assert answer.ttl_s == 5
    known = answer.known
    assert known is not None
    assert (known.issuer, known.subject, known.groups) == ("callout", "u1", frozenset({"ops"}))
    assert known.own is not None
    assert (known.own.read, known.own.write) == (("a/",), ("b",))
    assert answered({"identity": None}) == Answer(None, 60.0)
    assert answered({"identity": {"subject": "u1"}}) == Answer(Known("callout", "u1"), 60.0)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 50_000, "is not JSON"),
        ([], "must be an object with an 'identity'"),
        ({}, "must be an object with an 'identity'"),
        ({"identity": "u1"}, "'identity' of the answer must be an object, or null"),
        ({"identity": {}}, "'identity.subject' of the answer must be text"),
        ({"identity": {"subject": ""}}, "'identity.subject'"),
        ({"identity": {"subject": "x" * 256}}, "'identity.subject'"),
        ({"identity": {"subject": 1}}, "'identity.subject'"),
        ({"identity": {"subject": "u", "groups": "ops"}}, "'identity.groups' of the answer must be a list"),
        ({"identity": {"subject": "u", "groups": ["x"] * 257}}, "a list of 256 texts at most"),
        ({"identity": {"subject": "u", "claims": {"a": []}}}, "'identity.claims' of the answer must be an object"),
        ({"identity": {"subject": "u"}, "read": "a"}, "the answer.read must be a list of patterns"),
        ({"identity": {"subject": "u"}, "read": ["a//"]}, "the answer.read"),
        ({"identity": {"subject": "u"}, "write": ["*"] * 65}, "more than 64 patterns with a '*'"),
        ({"identity": {"subject": "u"}, "admin": True}, "only a rule makes an administrator"),
        ({"identity": None, "ttl_s": "60"}, "'ttl_s' of the answer must be a number from 1 to 86400"),
        ({"identity": None, "ttl_s": True}, "'ttl_s'"),
        ({"identity": None, "ttl_s": 0}, "'ttl_s'"),
        (b'{"identity": null, "ttl_s": NaN}', "'ttl_s'"),
        (b'{"identity": null, "ttl_s": 1e999}', "'ttl_s'"),
    ],
)
def test_an_answer_that_is_not_good_is_refused_and_says_why(body: Any, why: str) -> None:
    with pytest.raises(BadAnswer) as caught:
        answered(body)
    assert why in str(caught.value)


@settings(derandomize=True, database=None, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda each: st.lists(each) | st.dictionaries(
    st.sampled_from(["identity", "subject", "groups", "claims", "read", "write", "ttl_s"]), each)))  # fmt: skip
def test_any_answer_ends_in_an_answer_or_a_reason(body: Any) -> None:
    with suppress(BadAnswer):
        answered(body)


def test_a_question_about_names_tells_whose_they_are() -> None:
    book = Book("digest", "https://id", "u1", "192.0.2.1", AllowedNames())
    book.asking = (("read", "a"), ("write", "b/"))
    assert json.loads(names_question(book)) == {
        "version": 1,
        "identity": {"issuer": "https://id", "subject": "u1"},
        "peer": "192.0.2.1",
        "ask": [{"action": "read", "name": "a"}, {"action": "write", "name": "b/"}],
    }


def test_an_answer_about_names_tells_which_are_allowed_and_for_how_long() -> None:
    assert allowed_of(b'{"allowed": [true, false]}', PLAIN, 2) == ([True, False], 60.0)
    assert allowed_of(b'{"allowed": [true], "ttl_s": 5, "more": 1}', PLAIN, 1) == ([True], 5.0)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[true]", b"{}", b'{"allowed": true}', b'{"allowed": []}', b'{"allowed": [true, true]}',
        b'{"allowed": [1]}', b'{"allowed": ["true"]}', b'{"allowed": [null]}', b'{"allowed": [true], "ttl_s": 0}',
        b'{"allowed": [true], "ttl_s": "60"}',
    ],
)  # fmt: skip
def test_an_answer_about_names_that_is_not_good_allows_nothing(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        allowed_of(body, PLAIN, 1)


# Identities ----------------------------------------------------------------------------------------------------------


class Rig:
    """An authority with a callout; `lost` is what was told to be over."""

    def __init__(self, content: str = CALLOUT + OWN) -> None:
        self.authority = RulesAuthority(read_policy(content, "auth.toml").policy)
        self.authority.on_lost = self._lose
        self.lost: list[tuple[list[str], Reason]] = []
        self.changed: list[str] = []
        self.authority.on_changed = self.changed.append
        self.errors: list[Exception | None] = []

    def _lose(self, tokens: Mapping[str, str], reason: Reason) -> None:
        self.lost.append((sorted(tokens), reason))

    def identify(self, token: str = "opaque", now: float = NOW) -> Identity:
        return self.authority.identify(token, now, WALL)

    def asked(self, token: str = "opaque", now: float = NOW) -> Entry:
        with pytest.raises(Unasked) as caught:
            self.identify(token, now)
        assert caught.value.token == token
        self.authority.ask(token, "peer", Waiter(self.errors.append, lambda: None), now)
        assert self.authority.answers is not None
        entry = self.authority.answers.next_due(now)
        assert entry is not None
        assert (entry.token, entry.peer) == (token, "peer")
        return entry

    def again(self, entry: Entry, answer: Answer | None, now: float) -> None:
        """Have the callout asked again, and answer, or fail."""
        answers = self.authority.answers
        assert answers is not None
        entry.waiters.clear()
        assert answers.next_due(now) is entry
        if answer is None:
            self.authority.unanswered(entry, now)
        else:
            self.authority.answered(entry, answer, now)

    def known(self, body: Any = None, token: str = "opaque") -> tuple[Entry, Identity]:
        entry = self.asked(token)
        assert self.authority.answers is not None
        callout = self.authority.policy.callout
        assert callout is not None
        self.authority.answered(entry, answered(body or {"identity": {"subject": "u1"}}, callout), NOW)
        entry.waiters.clear()
        return entry, self.identify(token)


def test_an_address_that_is_not_heard_any_more_has_nobody_asked_and_those_who_are_known_stay_in() -> None:
    def unheard(_digest: bytes) -> None:
        raise Overloaded("too many tokens", retry_ms=70, why="auth_failures_per_s")

    rig = Rig()
    _, identity = rig.known()
    assert rig.authority.identify("opaque", NOW, WALL, unheard) == identity
    with pytest.raises(Overloaded):
        rig.authority.identify("other", NOW, WALL, unheard)


def test_who_the_callout_says_it_is_has_the_grant_of_the_rules_and_of_its_answer() -> None:
    said = {"identity": {"subject": "u1", "claims": {"org": "acme"}}, "read": ["a/"]}
    _, identity = Rig().known(said)
    assert identity.principal == ("callout", "u1")
    assert all(identity.grant.may_read(name) for name in ("users/u1/", "org/acme/", "a/"))
    assert not identity.grant.may_read("users/u2/")
    _, ops = Rig().known({"identity": {"subject": "root", "groups": ["ops"]}})
    assert ops.grant.admin


def test_it_may_grant_no_more_than_the_policy_says() -> None:
    rig = Rig(CALLOUT + 'may_grant = ["a/"]\n' + OWN)
    _, identity = rig.known({"identity": {"subject": "u1", "groups": ["ops"]}, "read": ["a/x", "b/"]})
    assert identity.grant.may_read("a/x")
    assert not identity.grant.may_read("b/")
    assert not identity.grant.may_read("users/u1/")
    assert not identity.grant.admin


def test_a_token_that_it_does_not_accept_is_refused_for_as_long_as_it_says() -> None:
    rig = Rig()
    rig.authority.answered(rig.asked(), Answer(None, 5.0), NOW)
    with Refused(Why.UNACCEPTED):
        rig.identify(now=NOW + 4.9)
    with pytest.raises(Unasked):
        rig.identify(now=NOW + 5.0)


def test_tokens_of_an_issuer_and_static_ones_are_judged_here() -> None:
    issuer = '[[auth.issuer]]\nissuer = "https://id"\naudience = ["softstate"]\nsecret_file = "f"\n'
    rig = Rig(CALLOUT + issuer + OWN)
    rig.authority.keyrings["https://id"]._keys = (HmacKey(),)
    assert rig.identify(token()).issuer == "https://id"
    with pytest.raises(Unasked):
        rig.identify(token(iss="https://other"))
    with Refused(Why.UNKNOWN_KEY):
        rig.identify("sst_" + "c" * 43)
    with Refused(Why.MISSING):
        rig.authority.identify(None, NOW, WALL)


def test_another_grant_is_told_and_another_subject_ends_what_rests_on_the_answer() -> None:
    rig = Rig()
    entry, identity = rig.known({"identity": {"subject": "u1"}, "read": ["a/"]})
    rig.again(entry, answered({"identity": {"subject": "u1"}, "read": ["a/"]}), NOW + 60)
    assert rig.changed == []
    rig.again(entry, answered({"identity": {"subject": "u1"}, "read": ["b/"]}), NOW + 120)
    assert (rig.changed, rig.lost) == ([identity.digest], [])
    rig.again(entry, answered({"identity": {"subject": "u2"}, "read": ["b/"]}), NOW + 180)
    assert (rig.changed, len(rig.lost)) == ([identity.digest], 1)


def test_the_same_identity_is_given_as_long_as_nothing_changes() -> None:
    rig = Rig()
    entry, identity = rig.known()
    assert rig.identify() is identity
    assert rig.authority.again(identity, NOW) is identity
    generation = rig.authority.generation
    rig.again(entry, entry.answer, NOW + 60)
    assert rig.authority.generation == generation
    rig.authority.load_revocations(Revocations())
    judged = rig.authority.again(identity, NOW + 60)
    assert judged.grant is identity.grant
    assert judged.generation == rig.authority.generation


def test_an_answer_that_turns_to_no_ends_what_rests_on_it_and_raises_the_generation() -> None:
    rig = Rig()
    entry, identity = rig.known()
    generation = rig.authority.generation
    rig.again(entry, Answer(None, 60.0), NOW + 60)
    assert rig.authority.generation == generation + 1
    assert rig.lost == [([identity.token], "denied")]
    with Refused(Why.REVOKED):
        rig.authority.again(identity, NOW + 60)
    with Refused(Why.UNACCEPTED):
        rig.identify(now=NOW + 60)


def test_an_answer_that_grants_something_else_is_judged_again_at_the_next_request() -> None:
    rig = Rig()
    entry, identity = rig.known({"identity": {"subject": "u1"}, "read": ["a/", "b/"]})
    rig.again(entry, answered({"identity": {"subject": "u1"}, "read": ["b/"]}), NOW + 60)
    assert rig.lost == []
    judged = rig.authority.again(identity, NOW + 60)
    assert not judged.grant.may_read("a/")
    assert judged.grant.may_read("b/")
    assert rig.authority.again(identity, NOW + 60).grant is judged.grant, "one object for all sessions"


def test_a_token_that_is_another_subjects_now_ends_the_sessions_of_the_one_before() -> None:
    rig = Rig()
    entry, identity = rig.known()
    rig.again(entry, answered({"identity": {"subject": "u2"}}), NOW + 60)
    assert rig.lost == [([identity.token], "denied")]
    with Refused(Why.SUBJECT_CHANGED):
        rig.authority.again(identity, NOW + 60)
    assert rig.identify(now=NOW + 60).subject == "u2"


def test_the_last_answer_holds_while_the_callout_is_down_and_then_nobody_can_tell() -> None:
    rig = Rig()
    entry, identity = rig.known()
    rig.again(entry, None, NOW + 60)
    assert rig.identify(now=NOW + 60).principal == identity.principal
    assert rig.authority.again(identity, NOW + 60) is identity
    assert rig.authority.answers is not None
    rig.authority.outlived(rig.authority.answers.over(NOW + 360))
    assert rig.lost == [([identity.token], "overloaded")]
    with pytest.raises(Unavailable) as caught:
        rig.authority.again(identity, NOW + 360)
    assert caught.value.retry_ms
    with pytest.raises(Unasked):
        rig.identify(now=NOW + 360)


def test_a_failure_when_that_time_is_over_ends_it_too() -> None:
    rig = Rig()
    entry, _identity = rig.known()
    rig.again(entry, None, NOW + 360)
    assert [reason for _, reason in rig.lost] == ["overloaded"]


def test_a_subject_of_a_callout_and_its_token_can_be_revoked() -> None:
    for kind in ("sub", "token"):
        rig = Rig()
        _, identity = rig.known()
        digest = identity.digest if kind == "sub" else identity.token
        rig.authority.load_revocations(Revocations([Revocation(f"{REVOKED}{kind}/{digest}")]))
        for _ in range(2):
            with Refused(Why.REVOKED):
                rig.identify()
        with Refused(Why.REVOKED):
            rig.authority.again(identity, NOW)
        rig.authority.change(read_policy(CALLOUT + OWN, "auth.toml").policy, {})
        for _ in range(2):
            with Refused(Why.REVOKED):
                rig.identify()


def test_rules_that_change_are_those_of_its_subjects_too() -> None:
    rig = Rig()
    _, identity = rig.known()
    rig.authority.change(read_policy(CALLOUT + OWN.replace("users", "people"), "auth.toml").policy, {})
    judged = rig.authority.again(identity, NOW)
    assert judged.grant.may_read("people/u1/")
    assert not judged.grant.may_read("users/u1/")
    assert rig.identify().grant is judged.grant


def test_another_callout_is_asked_about_all_and_without_one_they_are_over() -> None:
    rig = Rig()
    entry, identity = rig.known()
    policy = read_policy(CALLOUT.replace("app.", "other.") + OWN, "auth.toml").policy
    rig.authority.change(policy, {})
    with pytest.raises(Unasked):
        rig.identify()
    assert rig.authority.again(identity, NOW).principal == identity.principal, "until it has answered"
    rig.again(entry, Answer(None, 60.0), NOW)
    assert rig.lost
    rig.authority.change(read_policy('[[allow]]\nwho = "anyone"\nread = ["a"]\n', "auth.toml").policy, {})
    with Refused(Why.REVOKED):
        rig.authority.again(identity, NOW)


def test_a_callout_that_comes_back_answers_for_no_session_of_before() -> None:
    rig = Rig()
    _, identity = rig.known()
    without = read_policy('[[allow]]\nwho = "anyone"\nread = ["a"]\n', "auth.toml").policy
    rig.authority.change(without, {})
    rig.authority.change(read_policy(CALLOUT + OWN, "auth.toml").policy, {})
    rig.known()
    with pytest.raises(Unavailable, match="present the token again"):
        rig.authority.again(identity, NOW)
