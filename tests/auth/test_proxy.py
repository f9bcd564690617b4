"""Proxies that are trusted: whom they may vouch for, and whose request it is by the hops that they list."""

from __future__ import annotations

import pytest

from softstate.addresses import UNIX, address_of
from softstate.auth import authority as module
from softstate.auth.authority import RulesAuthority
from softstate.auth.identity import Identity, Why
from softstate.auth.policy_file import read_policy
from softstate.auth.presented import Vouched
from softstate.auth.proxy import GRANTS_CHARS_MAX, HOPS_MAX, TrustedProxy
from softstate.auth.revocations import REVOKED, Revocation, Revocations
from softstate.errors import ConfigError, Unauthenticated
from tests.auth.tokens import NOW, WALL, Refused

PROXY = """
[auth.proxy]
trusted = ["10.0.0.0/8", "::1", "unix"]
subject_header = "Softstate-Subject"
grants_header = "X-Grants"
"""
OWN = """
[[allow]]
who = "signed-in"
read = ["users/{sub}/", "by/{iss}/"]
"""


def proxy_of(content: str = PROXY) -> TrustedProxy:
    found = read_policy(content, "auth.toml").policy.proxy
    assert found is not None
    return found


def authority(content: str = PROXY + OWN) -> RulesAuthority:
    return RulesAuthority(read_policy(content, "auth.toml").policy)


def identify(subject: str, grants: str | None = None, via: str = "10.1.2.3", content: str = PROXY + OWN) -> Identity:
    return authority(content).identify(Vouched(subject, grants, via), NOW, WALL)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("10.0.0.1:1234", "10.0.0.1"),
        ("::1:1234", "::1"),
        ("[2001:DB8::1]:80", "2001:db8::1"),
        ("::ffff:10.0.0.1:1234", "10.0.0.1"),
        ("unix:", UNIX),
        ("unix-uid=33:4242", "unix-uid=33"),
        ("peer", "peer"),
        ("", ""),
    ],
)
def test_the_address_of_a_peer_is_without_its_port_and_in_one_spelling(peer: str, address: str) -> None:
    assert address_of(peer) == address


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("::1", True),
        ("::2", False),
        (UNIX, True),
        ("peer", False),
        ("", False),
    ],
)
def test_a_proxy_is_trusted_by_its_address(address: str, trusted: bool) -> None:
    assert proxy_of().trusts(address) is trusted


def test_a_unix_socket_is_trusted_only_if_it_is_named() -> None:
    named = proxy_of('[auth.proxy]\ntrusted = "unix"\nsubject_header = "s"')
    other = proxy_of('[auth.proxy]\ntrusted = "10.0.0.1"\nsubject_header = "s"')
    for via in (UNIX, "unix-uid=33"):
        assert named.trusts(via)
        assert not other.trusts(via)
        with pytest.raises(Unauthenticated, match="or name 'unix' in 'trusted'"):
            other.check(Vouched("u1", None, via))
    assert not named.trusts("unix.example")


@pytest.mark.parametrize(
    ("via", "header", "client"),
    [
        ("192.0.2.1", "1.1.1.1", "192.0.2.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", "1.1.1.1, 192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", "1.1.1.1,192.0.2.1 , 10.0.0.2", "192.0.2.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "192.0.2.1:443, [2001:db8::1]:80", "2001:db8::1"),
        ("10.0.0.1", "192.0.2.1, unknown", "10.0.0.1"),
        ("10.0.0.1", "192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "192.0.2.1,", "10.0.0.1"),
        ("unix", "192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", "::ffff:192.0.2.1", "192.0.2.1"),
        ("10.0.0.1", ", ".join(["192.0.2.1"] + ["10.0.0.2"] * (HOPS_MAX - 1)), "192.0.2.1"),
        ("10.0.0.1", ", ".join(["192.0.2.1"] + ["10.0.0.2"] * HOPS_MAX), "10.0.0.2"),
    ],
)
def test_the_client_is_the_last_hop_that_is_no_trusted_proxy(via: str, header: str | None, client: str) -> None:
    assert proxy_of().client_of(via, header) == client


@pytest.mark.parametrize(
    ("header", "client"),
    [
        ("for=192.0.2.1", "192.0.2.1"),
        ('For="[2001:db8::1]:4711";proto=http, for="10.0.0.2:80"', "2001:db8::1"),
        ("by=1.2.3.4;for=192.0.2.1;host=x", "192.0.2.1"),
        ("for=192.0.2.1, for=_hidden", "10.0.0.1"),
        ("for=192.0.2.1, proto=http", "10.0.0.1"),
        ("192.0.2.1", "10.0.0.1"),
        ('for="192.0.2.1\\""', "10.0.0.1"),
    ],
)
def test_hops_may_be_listed_as_rfc_7239_has_them(header: str, client: str) -> None:
    proxy = proxy_of(PROXY + 'address_header = "Forwarded"\n')
    assert proxy.client_of("10.0.0.1", header) == client


def test_whom_a_trusted_proxy_names_has_an_identity_with_the_grant_of_the_rules() -> None:
    identity = identify("u1")
    assert identity.principal == ("proxy", "u1")
    assert identity.grant.may_read("users/u1/")
    assert identity.grant.may_read("by/proxy/x")
    assert not identity.grant.may_read("users/u2/")


def test_grants_of_the_proxy_come_on_top_and_make_no_administrator() -> None:
    identity = identify("u1", '{"read": ["a/"], "write": ["b"]}')
    assert identity.grant.may_read("a/x")
    assert identity.grant.may_write("b")
    with Refused(Why.MALFORMED):
        identify("u1", '{"read": ["a/"], "admin": true}')


def test_grants_of_the_proxy_are_held_to_what_it_may_grant() -> None:
    content = PROXY + 'may_grant = ["a/"]\n' + OWN
    identity = identify("u1", '{"read": ["a/x", "b/"]}', content=content)
    assert identity.grant.may_read("a/x")
    assert not identity.grant.may_read("b/")
    assert not identity.grant.may_read("users/u1/")


@pytest.mark.parametrize(
    "grants", ["", "x", "[]", "null", '{"read": "a"}', '{"read": ["a//"]}', "[" * 5_000, " " * GRANTS_CHARS_MAX + "{}"]
)
def test_grants_that_are_not_good_refuse_the_request(grants: str) -> None:
    with Refused(Why.MALFORMED):
        identify("u1", grants)


@pytest.mark.parametrize("subject", ["", "a\nb", "x" * 256])
def test_a_subject_that_is_not_good_is_refused(subject: str) -> None:
    with Refused(Why.MALFORMED):
        identify(subject)


def test_a_subject_from_elsewhere_is_refused_naming_the_setting() -> None:
    with pytest.raises(Unauthenticated) as caught:
        identify("u1", via="192.0.2.1")
    assert caught.value.why == Why.UNTRUSTED
    assert "softstate-subject" in caught.value.message
    assert "'trusted' of [auth.proxy]" in caught.value.message


def test_a_subject_is_judged_again_when_the_rules_change() -> None:
    found = authority()
    identity = found.identify(Vouched("u1", None, "10.1.2.3"), NOW, WALL)
    assert found.identify(Vouched("u1", None, "10.1.2.3"), NOW, WALL) is identity
    found.change(read_policy(PROXY + OWN.replace("users", "people"), "auth.toml").policy, {})
    again = found.again(identity, NOW)
    assert again.generation == found.generation
    assert again.grant.may_read("people/u1/")
    found.change(read_policy(PROXY.replace("10.0.0.0/8", "10.1.0.0/24") + OWN, "auth.toml").policy, {})
    with Refused(Why.UNTRUSTED):
        found.again(again, NOW)
    for content in ('[[allow]]\nwho = "anyone"\nread = ["/"]', '[auth.proxy]\ntrusted = "10.0.0.0/8"\n' + OWN):
        if "anyone" not in content:
            content += '[[allow]]\nwho = "anyone"\nread = ["/"]'
        found.change(read_policy(content, "auth.toml").policy, {})
        with Refused(Why.UNTRUSTED):
            found.again(again, NOW)


def test_a_subject_of_a_proxy_can_be_revoked() -> None:
    found = authority()
    identity = found.identify(Vouched("u1", None, "10.1.2.3"), NOW, WALL)
    found.load_revocations(Revocations([Revocation(f"{REVOKED}sub/{identity.digest}")]))
    with Refused(Why.REVOKED):
        found.identify(Vouched("u1", None, "10.1.2.3"), NOW, WALL)
    with Refused(Why.REVOKED):
        found.again(identity, NOW)


def test_few_subjects_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERIFIED_MAX", 2)
    found = authority()
    for number in range(4):
        found.identify(Vouched(str(number), None, "10.1.2.3"), NOW, WALL)
    assert len(found._vouched_for) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "[auth.proxy] in auth.toml, line 1 must have 'trusted'"),
        ('trusted = ["x"]', "trusted of [auth.proxy] in auth.toml, line 2 must be addresses such as '10.1.2.3'"),
        ('trusted = ["10.0.0.1/8"]', "line 2 must be addresses such as '10.1.2.3' or '10.0.0.0/8', or 'unix': "),
        ('trusted = ["0.0.0.0/0"]', "line 2 must not be everybody (0.0.0.0/0)"),
        ('trusted = ["::/0"]', "line 2 must not be everybody (::/0)"),
        ('trusted = ["128.0.0.0/1", "10.0.0.0/8", "0.0.0.0/1"]', "line 2 must not be everybody (0.0.0.0/0)"),
        ('trusted = ["10.0.0.0/8", "::/2", "4000::/2", "8000::/1"]', "line 2 must not be everybody (::/0)"),
        (
            'trusted = "unix"\ngrants_header = "g"',
            "grants_header of [auth.proxy] in auth.toml, line 3 needs a subject_h",
        ),
        (
            'trusted = "unix"\nsubject_header = "a b"',
            "subject_header of [auth.proxy] in auth.toml, line 3 must be the n",
        ),
        ('trusted = "unix"\nsubject_header = "Authorization"', "line 3 must be the name of a header that a proxy sets"),
        ('trusted = "unix"\naddress_header = "X-Real-IP"', "line 3 must be 'X-Forwarded-For' or 'Forwarded'"),
        ('trusted = "unix"\nheader = "x"', "unknown key header of [auth.proxy] in auth.toml, line 3"),
        ('trusted = "unix"', "auth.toml lets nobody in"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(content: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_policy(f"[auth.proxy]\n{content}", "auth.toml")
    assert message in str(caught.value)


def test_no_issuer_may_be_called_as_the_proxy_is() -> None:
    content = '[[auth.issuer]]\nissuer = "proxy"\naudience = ["s"]\nsecret_file = "f"\n'
    with pytest.raises(ConfigError, match="must not be 'proxy', which stands for subjects that a proxy vouches for"):
        read_policy(content, "auth.toml")


def test_a_rule_may_name_the_proxy_if_there_is_one() -> None:
    rule = '[[allow]]\nwho = {issuer = "proxy", sub = "ops"}\nadmin = true\n'
    assert identify("ops", content=PROXY + rule).grant.admin
    with pytest.raises(ConfigError, match="names 'proxy', which is no issuer"):
        read_policy(rule + '[[allow]]\nwho = "anyone"\nread = ["/"]', "auth.toml")
