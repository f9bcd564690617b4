"""``softstate token``, run in this process: what is printed, exit codes, and what is on disk afterwards."""

from __future__ import annotations

import json
import sys
import time
import tomllib
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from softstate.auth.policy_file import read_policy
from softstate.auth.token import read_token
from softstate.cli import exit_codes, run
from tests.kit.static_tokens import CI, static

Output = Callable[..., list[str]]
Refusal = Callable[..., str]

POLICY = f"""
[[auth.issuer]]
issuer = "local"
audience = ["softstate"]
jwks_file = "keys.json"
may_grant = ["users/", "builds/"]

{static("ci", CI, read=["builds/"])}
[[allow]]
who = "anyone"
read = ["public/"]

[[allow]]
who = "signed-in"
read = ["users/{{sub}}/", "org/{{claim:org}}/"]
write = ["users/{{sub}}/cart"]

[[allow]]
who = {{group = "ops"}}
write = ["users/"]
"""


@pytest.fixture
def policy(folder: Path, output: Output) -> Path:
    """Write a policy file, and the key of its issuer."""
    (keys,) = output("key", "key.jwk", "--kid", "k1")
    (folder / "keys.json").write_text(keys)
    (folder / "auth.toml").write_text(POLICY)
    return folder / "auth.toml"


def made(output: Output, *words: str) -> str:
    (token,) = output("make", "--key", "key.jwk", "--sub", "u1", *words)
    return token


# key -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["Ed25519", "ES256", "HS256"])
def test_a_key_is_made_for_its_owner_alone(alg: str, folder: Path, output: Output) -> None:
    (line,) = output("key", "key.jwk", "--alg", alg)
    private = json.loads((folder / "key.jwk").read_text())
    assert (folder / "key.jwk").stat().st_mode & 0o777 == 0o600
    if alg == "HS256":
        assert line == 'secret_file = "key.jwk"'
        assert private["k"] not in line
    else:
        (public,) = json.loads(line)["keys"]
        assert public.items() <= private.items()
        assert private.keys() - public.keys() == {"d"}


def test_a_key_takes_the_place_of_nothing(folder: Path, refusal: Refusal) -> None:
    (folder / "key.jwk").write_text("x")
    assert "key.jwk is there already: it was left as it is" in refusal("key", "key.jwk")
    assert (folder / "key.jwk").read_text() == "x"
    (folder / "link").symlink_to("elsewhere")
    assert "is there already" in refusal("key", "link")
    assert "cannot make no/key: No such file" in refusal("key", "no/key")
    assert "must be one of HS256" in refusal("key", "other", "--alg", "none")
    assert "'kid' must be text" in refusal("key", "other", "--kid", "")
    assert sorted(path.name for path in folder.iterdir()) == ["key.jwk", "link"]


# make ----------------------------------------------------------------------------------------------------------------


def test_a_token_says_what_was_asked(policy: Path, output: Output) -> None:
    token = read_token(
        made(
            output, "--read", "users/{sub}/", "--write", "a", "--group", "ops", "--claim", "org=acme", "--expires", "2h"
        )
    )
    claims = dict(token.claims)
    assert abs(claims.pop("iat") - time.time()) < 60
    assert claims.pop("exp") - token.claims["iat"] == 7_200
    assert len(claims.pop("jti")) == 16
    assert claims == {
        "iss": "local", "sub": "u1", "aud": "softstate", "groups": ["ops"], "org": "acme",
        "softstate": {"read": ["users/{sub}/"], "write": ["a"]},
    }  # fmt: skip
    assert (token.header.algorithm, token.header.key, token.header.type) == ("EdDSA", "k1", "JWT")


def test_a_token_that_no_node_may_take_is_made_with_a_word(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["token", "make", "--key", "key.jwk", "--sub", "u1", "--expires", "48h"]) == 0
    assert "more than 24 hours" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sub", ""], "--sub must be text of 1 to 255"),
        (["--sub", "a\nb"], "--sub must be text"),
        (["--issuer", ""], "--issuer must be text"),
        (["--read", "a*"], "--read: '*'"),
        (["--write", "a//b"], "--write must not begin"),
        (["--claim", "org"], "--claim must be NAME=TEXT"),
        (["--claim", "exp=1"], "--claim exp: an option of its own sets it"),
        (["--claim", "a=1", "--claim", "a=2"], "--claim a: an option of its own sets it, or it is there twice"),
        (["--claim", "a=" + "x" * 9_000], "characters, and 8192 are the most"),
        (["--expires", "0s"], "--expires must be at least 1s"),
        (["--expires", "1d"], "--expires must be a duration"),
        (["--key", "keys.json"], "--key: keys.json cannot be used: it is a set of public keys"),
        (["--key", "no"], "--key: cannot read no: No such file"),
    ],
)
def test_a_token_that_cannot_be_made(words: list[str], message: str, policy: Path, refusal: Refusal) -> None:
    usual = {"--key": "key.jwk", "--sub": "u1"}
    rest = [word for name, value in usual.items() if name not in words for word in (name, value)]
    assert message in refusal("make", *rest, *words)


# show ----------------------------------------------------------------------------------------------------------------


def shown(output: Output, policy: Path, token: str, *words: str) -> list[str]:
    (policy.parent / "token").write_text(token + "\n")
    return output("show", "token", *words)


def test_a_token_is_taken_apart(policy: Path, output: Output) -> None:
    lines = shown(output, policy, made(output, "--claim", "org=a\u202eb"))
    assert lines[0] == "header  alg EdDSA, kid k1, typ JWT"
    assert 'claim   sub = "u1"' in lines
    assert 'claim   org = "a\\u202eb"' in lines
    assert any(line.startswith("claim   exp = ") and line.endswith("(in 60 m)") for line in lines)
    assert lines[-1] == "not checked: name the policy file with --auth"


def test_a_token_is_checked(policy: Path, output: Output) -> None:
    lines = shown(output, policy, made(output), "--auth", "auth.toml")
    assert [line[0] for line in lines if line[0] in "✓✗"] == ["✓"] * 9
    assert lines[-3:] == [
        "subject u1 of issuer local", "read    public/ users/u1/", "write   users/u1/cart"
    ]  # fmt: skip


def test_a_token_comes_from_standard_input(policy: Path, output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    path = policy.with_name("token")
    path.write_text(made(output))
    with path.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert 'claim   sub = "u1"' in output("show")


def test_a_check_that_fails_is_told(policy: Path, capsys: pytest.CaptureFixture[str], output: Output) -> None:
    (policy.parent / "token").write_text(made(output, "--audience", "shop"))
    assert run(["token", "show", "token", "--auth", "auth.toml"]) == exit_codes.DENIED
    found = capsys.readouterr()
    assert [line for line in found.out.splitlines() if line[0] in "✓✗"] == [
        "✓ it is made as it should be",
        "✓ its issuer is known",
        "✓ its key is known",
        "✓ its signature is good",
        "✗ it is for this audience (audience)",
    ]
    assert found.err == "softstate: the token is for audience 'shop', this node accepts 'softstate'.\n"


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("", 2, "token must hold one token, and nothing else"),
        ("a b", 2, "token must hold one token"),
        ("x" * 20_000, 2, "token must hold one token"),
        ("abc", 7, "this is no token: one has three parts"),
        ("sst_abc", 7, "43 more letters"),
    ],
)
def test_what_is_no_token_cannot_be_shown(
    content: str, code: int, message: str, folder: Path, refusal: Refusal
) -> None:
    (folder / "token").write_text(content)
    assert message in refusal("show", "token", code=code)
    assert "cannot read no: No such file" in refusal("show", "no")


@pytest.mark.parametrize("token", ["eyJhbGciOiJFZERTQSJ9.e30." + "x" * 300, CI])
def test_a_token_in_the_place_of_its_file_is_not_repeated(token: str, folder: Path, refusal: Refusal) -> None:
    told = refusal("show", token)
    assert "a token is read from a file that FILE names, or from standard input (-)" in told
    assert token[:30] not in told


# test ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["read", "public/x"], "anyone may read public/x: read public/, by [[allow]] 1 in auth.toml, line 13"),
        (
            ["read", "users/u1/", "--sub", "u1"],
            "u1 of local may read users/u1/: read users/u1/, by [[allow]] 2 in auth.toml",
        ),
        (
            ["write", "users/u1/cart", "--sub", "u1"],
            "u1 of local may write users/u1/cart: write users/u1/cart, by [[allow]] 2",
        ),
        (["write", "users/x", "--sub", "u1", "--group", "ops"], "by [[allow]] 3 in auth.toml, line 22"),
        (
            ["read", "builds/7", "--sub", "ci", "--issuer", "static"],
            "ci of static may read builds/7: read builds/, by the static",
        ),
    ],
)
def test_it_says_which_rule_decides(words: list[str], message: str, policy: Path, output: Output) -> None:
    (line,) = output("test", *words, "--auth", "auth.toml")
    assert message in line


def test_a_token_may_bring_its_rights_along(policy: Path, output: Output) -> None:
    (policy.parent / "token").write_text(made(output, "--read", "builds/{sub}/", "--read", "secret/"))
    (line,) = output("test", "read", "builds/u1/x", "--auth", "auth.toml", "--token-file", "token")
    assert line == "u1 of local may read builds/u1/x: read builds/u1/, by the token itself"
    assert run(["token", "test", "read", "secret/x", "--auth", "auth.toml", "--token-file", "token"]) == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["read", "users/u1/"], "anyone may not read users/u1/; allowed: public/"),
        (["write", "public/x"], "anyone may not write public/x; allowed: nothing"),
        (["read", "users/", "--sub", "u1"], "u1 of local may not read users/; allowed below it: users/u1/"),
        (["read", "org/acme/", "--sub", "u1", "--claim", "org=acme"], "u1 of local may not read org/acme/; allowed:"),
        (["read", "$softstate/x", "--sub", "u1"], "u1 of local may not read $softstate/x"),
        (
            ["read", "org/acme/x", "--sub", "ci", "--issuer", "static", "--claim", "org=acme"],
            "ci of static may not read",
        ),
    ],
)
def test_who_may_not_is_told_what_he_may(words: list[str], message: str, policy: Path, refusal: Refusal) -> None:
    assert message in refusal("test", *words, "--auth", "auth.toml", code=exit_codes.DENIED)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["read", "a//b"], "NAME must not begin"),
        (["write", "a/"], "NAME must not begin or end"),
        (["read", "a", "--group", "ops"], "--sub is missing"),
        (["read", "a", "--sub", "u1", "--token-file", "token"], "--token-file says who it is"),
        (["read", "a", "--sub", "x", "--issuer", "static"], "there is no [[auth.token]] of the name 'x'"),
        (["read", "a", "--sub", "x", "--issuer", "other"], "--issuer must be one of local, static, not 'other'"),
    ],
)
def test_a_question_that_cannot_be_answered(words: list[str], message: str, policy: Path, refusal: Refusal) -> None:
    assert message in refusal("test", *words, "--auth", "auth.toml")
    assert "the policy file: cannot read no: No such file" in refusal("test", "read", "a", "--auth", "no")


# static --------------------------------------------------------------------------------------------------------------


def test_a_static_token_is_printed_with_its_lines(folder: Path, output: Output) -> None:
    token, empty, *lines = output(
        "static", "--name", 'c"i', "--read", "a/", "--read", "b/*/", "--write", "a/x", "--admin"
    )
    assert empty == ""
    content = "\n".join(lines)
    (entry,) = tomllib.loads(content)["auth"]["token"]
    digest = sha256(token.encode()).hexdigest()
    rest = {"read": ["a/", "b/*/"], "write": ["a/x"], "admin": True}
    assert entry == {"name": 'c"i', "sha256": digest, **rest}
    assert read_policy(content, "x").policy.tokens[0].name == 'c"i'
    assert token not in content
    assert token.startswith("sst_")
    assert token != output("static", "--name", "ci")[0]


def test_a_static_token_needs_a_name_and_patterns(folder: Path, refusal: Refusal) -> None:
    assert "--name must be text" in refusal("static", "--name", "")
    assert "--read: '*'" in refusal("static", "--name", "ci", "--read", "a*")


def test_an_unknown_command_is_answered_with_all_there_are(refusal: Refusal) -> None:
    assert "Available commands: key, make, show, test, static (see: softstate token --help)" in refusal("frob")


# Subjects whom no token names -----------------------------------------------------------------------------------------

OTHERS = """
[auth.proxy]
trusted = "unix"
subject_header = "s"
may_grant = ["users/"]
[auth.mtls]
subject = "dns"
[auth.callout]
url = "https://app.example/"
secret_file = "secret"
[[allow]]
who = "signed-in"
read = ["users/{sub}/", "more/"]
"""


@pytest.fixture
def others(folder: Path) -> Path:
    secret = folder / "secret"
    secret.touch(0o600)
    secret.write_text("s" * 32)
    (folder / "others.toml").write_text(OTHERS)
    return folder / "others.toml"


@pytest.mark.parametrize(
    ("issuer", "name", "allowed"),
    [
        ("proxy", "users/u1/", True),
        ("proxy", "more/", False),
        ("callout", "more/", True),
        ("mtls", "users/u1/", True),
        ("mtls", "users/u2/", False),
    ],
)
def test_it_answers_for_subjects_of_a_proxy_a_callout_and_certificates(
    issuer: str, name: str, allowed: bool, others: Path, output: Output, refusal: Refusal
) -> None:
    words = ("test", "read", name, "--auth", str(others), "--sub", "u1", "--issuer", issuer)
    if allowed:
        (line,) = output(*words)
        assert line.startswith(f"u1 of {issuer} may read {name}")
    else:
        assert "may not read" in refusal(*words, code=exit_codes.DENIED)


def test_it_asks_no_callout(others: Path, folder: Path, refusal: Refusal) -> None:
    (folder / "token").write_text("opaque")
    said = refusal("test", "read", "a", "--auth", str(others), "--token-file", str(folder / "token"))
    assert "a running node asks the callout whose token this is" in said
    assert "--issuer is missing: it must be one of proxy, callout, mtls, static" in refusal(
        "test", "read", "a", "--auth", str(others), "--sub", "u1"
    )
