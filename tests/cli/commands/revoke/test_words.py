"""The words of ``softstate revoke``: what is refused, by the name of the argument and its limit, without a node."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from softstate.auth.policy_file import read_policy
from softstate.auth.revocations import token_topic
from softstate.cli import run
from softstate.cli.commands.revoke.given import ENDED_S
from softstate.errors import ConfigError
from tests.auth.tokens import token
from tests.cli.commands.revoke.conftest import READER

Refusal = Callable[..., str]

WHOLE = token()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sub", "", "u1"], "ISSUER must be text of 1 to 255 printable characters"),
        (["sub", "i", ""], "SUBJECT must be text of 1 to 255 printable characters"),
        (["sub", "i", "x" * 256], "SUBJECT must be text of 1 to 255"),
        (["sub", "i", "a\nb"], "SUBJECT must be text"),
        (["sub", "i", "u1", "--reason", "x" * 257], "--reason must be 256 characters at most, this one has 257"),
        (["sub", "i", "u1", "--reason", "a\nb"], "--reason must be printable text"),
        (
            ["sub", "i", "u1", "--for", "1d"],
            "--for must be a duration such as 500ms, 60s, 10m or 1h, not '1d'; or 'ever'",
        ),
        (["sub", "i", "u1", "--for", "0s"], "--for must be at least 1s, not '0s'"),
        (["sub", "i", "u1", "--for", "9000h"], "--for must be at most 8784h, not '9000h'; or 'ever'"),
        (["sub", "i", "u1", "--before", "2026-11-30T12:00:00"], "--before must be a time with its zone"),
        (["sub", "i", "u1", "--before", "soon"], "--before must be a time with its zone"),
        (["sub", "i", "u1", "--before", "-1"], "--before must be a time with its zone"),
        (["sub", "i", "u1", "--before", "0"], "--before must be after 1970"),
        (["sub", "i", "u1", "--before", "9999999999"], "--before must be after 1970, and at most a year from now"),
        (["sub", "static", "ci", "--before", "1"], "--before: credentials of issuer 'static' do not tell when"),
        (["sub", "proxy", "u1", "--before", "1"], "--before: credentials of issuer 'proxy' do not tell when"),
        (["token", ""], "TOKEN|ID must be text of 1 to 8192"),
        (["token", "x" * 9_000], "TOKEN|ID must be text of 1 to 8192"),
        (["token", READER[:-1]], "made like a token, and no node takes it: a token that begins with sst_"),
        (["token", f"aa.{'b' * 99}.cc"], "made like a token, and no node takes it: the token's header"),
        (["token", "eyJhbGciOiJIUzI1NiJ9.bb.cc"], "made like a token, and no node takes it: the token's signature"),
        (["token", token_topic("j1")], "softstate revoke undo TOPIC"),
        (["key", "", "k1"], "ISSUER must be text"),
        (["key", "i", "a\nb"], "KID must be text of 1 to 255"),
        (["key", "static", ""], "ISSUER: no key signs static tokens"),
        (["undo", "sub", "i"], "undo takes 'sub ISSUER SUBJECT'"),
        (["undo", "key", "static", ""], "ISSUER: no key signs static tokens"),
        (["undo", "orders/42"], "a topic that begins with $softstate/revoked/"),
        (["undo", "$softstate/revoked/sub/"], "WHAT must not begin or end with '/'"),
        (["undo", token_topic("j1"), "x"], "undo takes 'sub ISSUER SUBJECT'"),
        (["frob"], "Available commands: sub, token, key, list, undo (see: softstate revoke --help)"),
    ],
)
def test_what_cannot_be_revoked_is_refused(words: list[str], message: str, refusal: Refusal) -> None:
    assert message in refusal(*words)


@pytest.mark.parametrize("text", [WHOLE, READER, WHOLE.rpartition(".")[0] + "._", WHOLE + "x" * 9_000])
@pytest.mark.parametrize("words", [["token"], ["undo", "token"]])
def test_a_token_is_never_printed(text: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(["revoke", *words, text, "--url", "ws://127.0.0.1:1", "--timeout", "10ms"])
    output = capsys.readouterr()
    assert output.err
    assert not any(part in output.out + output.err for part in text.split(".") if len(part) > 1)


def test_a_revoked_token_outlives_its_revocation_under_no_policy() -> None:
    policy = '[[auth.issuer]]\nissuer = "i"\naudience = ["a"]\njwks_file = "k"\nleeway_s = %d\n'
    (issuer,) = read_policy(policy % (ENDED_S - 60), "x").policy.issuers
    assert issuer.leeway_s == ENDED_S - 60
    with pytest.raises(ConfigError, match="leeway_s"):
        read_policy(policy % (ENDED_S - 59), "x")
