"""``softstate serve --check --auth FILE``: issuers, keys, rules, and the rights of anyone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from softstate.auth.keyring import Key
from softstate.auth.policy_file import KeySource
from softstate.cli import exit_codes, run
from softstate.server.auth import once
from softstate.server.auth.key_sets import FetchFailed
from tests.auth.keys import key
from tests.kit.certificates import Authority

POLICY = f"""
[[auth.issuer]]
issuer = "https://id"
audience = ["softstate"]
jwks_url = "https://id/keys"
may_grant = ["shop/"]

[[auth.issuer]]
issuer = "local"
audience = ["softstate"]
jwks_file = "keys.json"

[[auth.token]]
name = "ci"
sha256 = "{"0" * 64}"

[[allow]]
who = "anyone"
read = ["public/"]

[[allow]]
who = {{group = "staff"}}
read = ["a/"]

[[allow]]
who = {{group = "ops", issuer = "local"}}
write = ["a/"]
admin = true
"""

Check = Callable[[str], tuple[int, list[str], str]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Check a policy file; return the exit code, the lines below the first, and what is on stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key("e").public_jwk(), {"kty": "x", "kid": "odd"}]}))

    def checked(content: str) -> tuple[int, list[str], str]:
        (tmp_path / "auth.toml").write_text(content)
        code = run(["serve", "--check", "--listen", "127.0.0.1:0", "--auth", "auth.toml"])
        output = capsys.readouterr()
        return code, output.out.splitlines()[1:], output.err

    return checked


def fetching(monkeypatch: pytest.MonkeyPatch, failure: str = "") -> list[str]:
    fetched: list[str] = []

    async def fetch(issuer: str, source: KeySource) -> tuple[list[Key], list[str]]:
        fetched.append(source.at)
        if failure:
            raise FetchFailed(failure)
        return [key("r").public], ["key 2: too small"]

    monkeypatch.setattr(once, "fetch_keys", fetch)
    return fetched


def test_it_tells_what_a_node_would_do(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = fetching(monkeypatch)
    assert check(POLICY) == (
        exit_codes.OK,
        [
            "issuer https://id: keys r RS256 from https://id/keys; may grant shop/",
            "issuer local: keys e ES256 from keys.json",
            "not taken: keys.json: key 'odd': keys of type 'x' are not known here",
            "not taken: key 2: too small",
            "static token ci: nothing of its own",
            "[[allow]] 1 in auth.toml, line 17: anyone: read public/",
            "[[allow]] 2 in auth.toml, line 21: group staff (of any issuer): read a/",
            "[[allow]] 3 in auth.toml, line 25: issuer local and group ops: write a/, admin",
            "anyone may read public/, and write nothing",
        ],
        "",
    )
    assert fetched == ["https://id/keys"]


def test_keys_that_cannot_be_fetched_are_told(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    fetching(monkeypatch, "https://id/keys cannot be reached: refused")
    code, lines, err = check(POLICY)
    assert code == exit_codes.UNAVAILABLE
    assert lines[0] == "issuer https://id: no keys from https://id/keys; may grant shop/"
    assert (
        "keys cannot be fetched, without which a node refuses their tokens: issuer https://id: https://id/keys" in err
    )


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ('who = "anyone"\nadmin = true', "anyone may everything"),
        ('who = "signed-in"\nread = ["/"]', "anyone may nothing: credentials are needed"),
    ],
)
def test_the_rights_of_anyone_are_told(rule: str, said: str, check: Check) -> None:
    token = f'[[auth.token]]\nname = "ci"\nsha256 = "{"0" * 64}"\n'
    code, lines, _ = check(f"{token}[[allow]]\n{rule}\n")
    assert (code, lines[-1]) == (exit_codes.OK, said)


def test_limits_are_told(check: Check) -> None:
    limits = '[[limit]]\nprefix = "a/"\npublishes_per_s = 500\npublish_bytes_per_s = 1e6\n'
    code, lines, _ = check('[[allow]]\nwho = "anyone"\nwrite = ["a/"]\n' + limits)
    assert code == exit_codes.OK
    assert "limit of a/: 500 publishes and 1000000 bytes a second, of all who publish" in lines


def test_certificates_that_are_never_taken_are_told(
    check: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tls").mkdir()
    authority = Authority(tmp_path / "tls")
    pair = authority.node()
    policy = '[[allow]]\nwho = "anyone"\nread = ["a/"]\n'
    _, lines, _ = check('[auth.mtls]\nsubject = "uri"\n' + policy)
    assert lines[0] == (
        "client certificates (issuer mtls): the subject is their uri; this node asks for none: "
        "give it --tls-client-ca FILE"
    )
    tls = ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key), "--tls-client-ca", str(authority.ca)]
    words = ["serve", "--check", "--listen", "127.0.0.1:0", "--auth", "auth.toml", *tls]
    assert run(words) == exit_codes.OK
    assert "client certificates (issuer mtls): the subject is their uri\n" in capsys.readouterr().out
    (tmp_path / "auth.toml").write_text(policy)
    assert run(words) == exit_codes.OK
    assert "client certificates: none is taken, as the policy has no table [auth.mtls]" in capsys.readouterr().out


def test_a_mistake_ends_the_check_and_nothing_is_called_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "auth.toml").write_text("[[alow]]")
    assert run(["serve", "--check", "--listen", "127.0.0.1:0", "--auth", "auth.toml"]) == exit_codes.USAGE
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "softstate: unknown key alow in auth.toml, line 1; did you mean 'allow'?\n"
