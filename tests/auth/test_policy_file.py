from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from softstate.auth.keyring import Times
from softstate.auth.limits import NamespaceLimit
from softstate.auth.policy_file import LIMITS_MAX, PolicyFile, read_policy
from softstate.auth.rules import Allow, Who
from softstate.auth.token import Issuer
from softstate.auth.urls import check_url
from softstate.errors import ConfigError

WHOLE = """
[[auth.issuer]]
issuer = "https://id.example"
audience = ["softstate"]
discovery = true
algorithms = ["ES256", "RS256"]
typ = ["at+JWT"]
leeway_s = 10
max_token_s = 3600
fresh_s = 600
may_grant = ["shop/", "users/{sub}/"]
groups_claim = "roles"

[[auth.issuer]]
issuer = "local"
audience = "softstate"
secret_file = "keys/secret.jwk"
trust_grants = false

[[auth.token]]
name = "ci"
sha256 = "%s"
read = ["builds/"]
until = 2027-01-31T00:00:00Z

[[allow]]
who = "anyone"
read = ["public/"]

[[allow]]
who = "signed-in"
read = ["users/{sub}/", "org/{claim:org}/"]
write = ["users/{sub}/cart"]

[[allow]]
who = {group = "ops", issuer = "local"}
admin = true
""" % ("ab" * 32)


def read(content: str) -> PolicyFile:
    return read_policy(content, "auth.toml")


def test_a_whole_file_is_read() -> None:
    found = read(WHOLE)
    first, second = found.policy.issuers
    assert first == Issuer(
        "https://id.example", ("softstate",), ("at+jwt",), 10, 3_600,
        ceiling=("shop/", "users/{sub}/"), groups_claim="roles",
    )  # fmt: skip
    assert second == Issuer("local", ("softstate",), trust_grants=False)
    source = found.sources["https://id.example"]
    assert (source.kind, source.fetched) == ("discovery", True)
    assert source.at == "https://id.example/.well-known/openid-configuration"
    assert source.algorithms == ("ES256", "RS256")
    assert source.times == Times(fresh_s=600)
    assert (found.sources["local"].kind, found.sources["local"].at) == ("secret_file", "keys/secret.jwk")
    (token,) = found.policy.tokens
    assert (token.name, token.digest, token.until) == ("ci", bytes.fromhex("ab" * 32), 1_801_353_600)
    assert token.allow.read == ("builds/",)
    anyone, everyone, ops = found.policy.allows
    assert anyone == Allow(Who(anyone=True), ("public/",), where="[[allow]] 1 in auth.toml, line 26")
    assert everyone.who == Who()
    assert ops.who == Who(group="ops", issuer="local")
    assert ops.admin


def test_a_token_without_an_end_is_good_for_ever_and_admin_may_be_said_of_it() -> None:
    (token,) = read(f'[[auth.token]]\nname = "ci"\nsha256 = "{"0" * 64}"\nadmin = true\n').policy.tokens
    assert token.until == math.inf
    assert token.allow.admin


def test_prefixes_have_limits() -> None:
    found = read(ANYONE + LIMIT + '[[limit]]\nprefix = "/"\npublishes_per_s = 0.5\npublish_bytes_per_s = 1000\n')
    assert found.policy.limits == (NamespaceLimit("a/", 5), NamespaceLimit("/", 0.5, 1_000))


def test_only_so_many_prefixes_have_limits() -> None:
    limits = [LIMIT.replace("a/", f"{number}/") for number in range(LIMITS_MAX + 1)]
    assert len(read(ANYONE + "".join(limits[1:])).policy.limits) == LIMITS_MAX
    with pytest.raises(ConfigError, match=r"1025 tables \[\[limit\]\], the most are 1024"):
        read(ANYONE + "".join(limits))


ISSUER = '[[auth.issuer]]\nissuer = "i"\naudience = ["s"]\nsecret_file = "f"\n'
TOKEN = f'[[auth.token]]\nname = "ci"\nsha256 = "{"0" * 64}"\n'
LIMIT = '[[limit]]\nprefix = "a/"\npublishes_per_s = 5\n'
ANYONE = '[[allow]]\nwho = "anyone"\nread = ["a/"]\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "auth.toml lets nobody in: add an [[auth.issuer]], an [[auth.token]] or an [[allow]] for anyone"),
        ('[[allow]]\nwho = "signed-in"\nread = ["/"]', "auth.toml lets nobody in: add"),
        ("x =", "auth.toml is not a TOML file: "),
        ("a = " + "[" * 5_000, "auth.toml is nested too deep"),
        ("\nalow = 1\n" + ISSUER, "unknown key alow in auth.toml, line 2; did you mean 'allow'?"),
        (ISSUER + "[[alow]]\nx = 1", "unknown key alow in auth.toml, line 5; did you mean 'allow'?"),
        (ISSUER + "[auth.x]\n", "unknown key x of [auth] in auth.toml; known are: issuer, token"),
        ("auth = 1", "auth in auth.toml, line 1 must be a table: [auth]"),
        ("[auth]\nissuer = 1", "issuer of [auth] in auth.toml, line 2 must be a list of tables: [[auth.issuer]]"),
        ("allow = ['x']", "allow in auth.toml, line 1 must be a list of tables: [[allow]]"),
        # Issuers
        (
            ISSUER + "audiance = 1",
            "unknown key audiance of [[auth.issuer]] 1 in auth.toml, line 5; did you mean 'audience'?",
        ),
        ('[[auth.issuer]]\naudience = "s"', "[[auth.issuer]] 1 in auth.toml, line 1 must have 'issuer'"),
        ('[[auth.issuer]]\nissuer = "i"', "[[auth.issuer]] 1 in auth.toml, line 1 must have 'audience'"),
        (ISSUER.replace('"i"', "1"), "issuer of [[auth.issuer]] 1 in auth.toml, line 2 must be text of 1 to 255"),
        (ISSUER.replace('"i"', '"static"'), "line 2 must not be 'static', which stands for static tokens"),
        (
            ISSUER.replace('["s"]', "[]"),
            "audience of [[auth.issuer]] 1 in auth.toml, line 3 must be a list of one or more",
        ),
        (ISSUER.replace('["s"]', "[1]"), "line 3 must be a list of one or more texts"),
        (
            ISSUER.replace('secret_file = "f"', ""),
            "line 1 must have one of secret_file, public_key_file, jwks_file, jwks_url",
        ),
        (ISSUER + 'jwks_file = "g"', "discovery; it has secret_file and jwks_file"),
        (ISSUER.replace('secret_file = "f"', "discovery = false"), "line 4 must be true, or left out"),
        (
            ISSUER.replace('secret_file = "f"', "discovery = true"),
            "'i/.well-known/openid-configuration' cannot be used: it must",
        ),
        (
            ISSUER.replace("secret_file", "jwks_url"),
            "jwks_url of [[auth.issuer]] 1 in auth.toml, line 4: 'f' cannot be used",
        ),
        (ISSUER + 'algorithms = ["none"]', "5 must be HS256, RS256, PS256, ES256 (or 384, 512) or EdDSA, not 'none'"),
        (
            ISSUER.replace('secret_file = "f"', 'jwks_url = "https://x"\nalgorithms = ["HS256"]'),
            "line 5 must not hold HS256, HS384 or HS512: a set that is fetched has no secrets",
        ),
        (ISSUER + "leeway_s = -1", "leeway_s of [[auth.issuer]] 1 in auth.toml, line 5 must be a number from 0 to 600"),
        (ISSUER + "leeway_s = nan", "line 5 must be a number from 0 to 600"),
        (ISSUER + "max_token_s = true", "line 5 must be a number from 1 to 3.16224e+07"),
        (
            ISSUER + "fresh_s = 20\ncool_s = 30",
            "fresh_s of [[auth.issuer]] 1 in auth.toml, line 5 must be at least cool_s",
        ),
        (ISSUER + "trust_grants = 1", "line 5 must be true or false"),
        (
            ISSUER + 'may_grant = ["a*"]',
            "may_grant of [[auth.issuer]] 1 in auth.toml, line 5: may_grant[1]: '*', '{sub}'",
        ),
        (
            ISSUER + ISSUER,
            "issuer of [[auth.issuer]] 2 in auth.toml, line 6 must be another one: [[auth.issuer]] 1 has it",
        ),
        # Static tokens
        (TOKEN + 'token = "sst_"', "unknown key token of [[auth.token]] 1 in auth.toml, line 4"),
        (
            TOKEN.replace("0000", "000g"),
            "sha256 of [[auth.token]] 1 in auth.toml, line 3 must be 64 hexadecimal digits",
        ),
        (TOKEN + "until = 2027-01-31T00:00:00", "line 4 must be a time with its offset, such as 2027-01-31T00:00:00Z"),
        (TOKEN + 'until = "tomorrow"', "line 4 must be a time with its offset"),
        (TOKEN + 'read = "a/"', 'line 4 must be a list of patterns, such as ["orders/", "users/{sub}/"]'),
        (TOKEN + TOKEN, "name of [[auth.token]] 2 in auth.toml, line 5 must be another one"),
        (TOKEN + TOKEN.replace("ci", "cd"), "sha256 of [[auth.token]] 2 in auth.toml, line 6 must be another one"),
        # Rules
        (
            '[[allow]]\nread = ["a/"]',
            "who of [[allow]] 1 in auth.toml, line 1 must be 'anyone', 'signed-in' or a table",
        ),
        (
            ANYONE.replace('"anyone"', '"nobody"'),
            "who of [[allow]] 1 in auth.toml, line 2 must be 'anyone', 'signed-in'",
        ),
        (ANYONE.replace('"anyone"', "{}"), "line 2 must be 'anyone', 'signed-in'"),
        (ANYONE.replace('"anyone"', '{group = ["a"]}'), "line 2 must be 'anyone', 'signed-in'"),
        (ANYONE.replace('"anyone"', '{sub = ""}'), "line 2 must be 'anyone', 'signed-in'"),
        (ANYONE.replace('"anyone"', '{groups = "a"}'), "line 2 must not have 'groups'; did you mean 'group'?"),
        (
            ISSUER + ANYONE.replace('"anyone"', '{issuer = "j"}'),
            "line 6 names 'j', which is no issuer; known are: i, static",
        ),
        ('[[allow]]\nwho = "anyone"', "[[allow]] 1 in auth.toml, line 1 must allow something: read, write or admin"),
        (ANYONE.replace("a/", "{sub}/"), "[[allow]] 1 in auth.toml, line 1 is for anyone, of whom nothing is known"),
        (
            ANYONE + 'deny = ["a/b"]',
            "unknown key deny of [[allow]] 1 in auth.toml, line 4; known are: admin, read, who",
        ),
        (
            ANYONE + "\n" + ANYONE.replace("a/", "a//"),
            "read of [[allow]] 2 in auth.toml, line 7: read[1] must not begin",
        ),
        (
            ANYONE.replace('"a/"', '"a/", "u-{sub}"'),
            "line 3: read[2]: '*', '{sub}', '{iss}' and '{claim:NAME}' each stand",
        ),
        (ANYONE + 'admin = "yes"', "admin of [[allow]] 1 in auth.toml, line 4 must be true or false"),
        # Limits
        (ANYONE + "[[limit]]\npublishes_per_s = 1", "[[limit]] 1 in auth.toml, line 4 must have 'prefix'"),
        (ANYONE + LIMIT.replace("a/", "a"), "prefix of [[limit]] 1 in auth.toml, line 5: prefix must "),
        (
            ANYONE + LIMIT.replace("= 5", "= 0"),
            "[[limit]] 1 in auth.toml, line 4 must limit something: publishes_per_s",
        ),
        (ANYONE + LIMIT.replace("= 5", "= -1"), "publishes_per_s of [[limit]] 1 in auth.toml, line 6 must be a number"),
        (ANYONE + LIMIT + "polls_per_s = 1", "unknown key polls_per_s of [[limit]] 1 in auth.toml, line 7"),
        (ANYONE + LIMIT + LIMIT, "prefix of [[limit]] 2 in auth.toml, line 8 must be another one: 'a/' has its limits"),
    ],
)
def test_a_mistake_is_told_by_name_and_line(content: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(content)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["https://id.example/keys", "https://id.example:8443/keys?x=1", "http://127.0.0.1:9/keys", "http://localhost/keys",
     "http://[::1]:9/"],
)  # fmt: skip
def test_keys_may_come_from(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    ["", "keys.json", "file:///etc/passwd", "ftp://x/y", "http://id.example/keys", "http://127.0.0.1.evil.example/",
     "http://127.1/", "https:///keys", "https://a:b@id.example/", "https://id.example/#x", "https://id.example/a b",
     "https://id.example:x/", "https://id.example:99999/", "https://ü.example/", "https://[::1/",
     "https://x/\nHost: y"],
)  # fmt: skip
def test_keys_may_not_come_from(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_url(url)


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(st.sampled_from(WHOLE.split("\n")), st.sampled_from(["", "x", "= 1", "[x]", '"', "1", "[", "who = 1", "\0"]))
def test_a_line_that_is_spoilt_is_read_or_told(line: str, other: str) -> None:
    with suppress(ConfigError):
        read(WHOLE.replace(line, other, 1))


def test_the_example_of_the_page_is_read() -> None:
    page = (Path(__file__).parents[2] / "softstate" / "auth" / "README.md").read_text(encoding="utf-8")
    found = read(page.partition("```toml\n")[2].partition("```")[0])
    assert len(found.policy.allows) == 3
    for issuer in found.policy.issuers:
        assert issuer == Issuer(issuer.name, issuer.audience)
