from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import OKPKey

from softstate.auth.authority import RulesAuthority
from softstate.errors import ConfigError
from softstate.server.auth.policy_files import FILE_BYTES_MAX, load_policy, stamps_of
from tests.auth.keys import key
from tests.auth.tokens import NOW, WALL, claims

HEAD = '[[auth.issuer]]\nissuer = "https://id"\naudience = ["softstate"]\n'


def policy(folder: Path, line: str) -> Path:
    path = folder / "auth.toml"
    path.write_text(f"{HEAD}{line}\n")
    return path


def private(path: Path, data: str) -> Path:
    path.touch(0o600)
    path.write_text(data)
    return path


def test_a_file_of_keys_is_found_beside_the_policy(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "set.json").write_text(json.dumps({"keys": [key("e").public_jwk(), {"kty": "x"}]}))
    loaded = load_policy(policy(tmp_path, 'jwks_file = "keys/set.json"'))
    assert list(loaded.files) == [tmp_path / "auth.toml", tmp_path / "keys" / "set.json"]
    assert loaded.files == stamps_of(loaded.files)
    (problem,) = loaded.problems
    assert problem == f"{tmp_path / 'keys' / 'set.json'}: key 2: keys of type 'x' are not known here"
    authority = RulesAuthority(loaded.policy, loaded.keyrings)
    assert authority.identify(key("e").sign(claims()), NOW, WALL).subject == "u1"


def test_keys_may_be_a_secret(tmp_path: Path) -> None:
    private(tmp_path / "secret", json.dumps(dict(key("h").jwk)))
    loaded = load_policy(policy(tmp_path, f'secret_file = "{tmp_path / "secret"}"'))
    assert RulesAuthority(loaded.policy, loaded.keyrings).identify(key("h").sign(claims()), NOW, WALL).key == "h"


def test_a_key_may_be_pem(tmp_path: Path) -> None:
    (tmp_path / "public.pem").write_bytes(OKPKey.import_key(dict[str, Any](key("d").jwk)).as_pem(private=False))
    loaded = load_policy(policy(tmp_path, 'public_key_file = "public.pem"'))
    (found,) = loaded.keyrings["https://id"].keys
    assert (found.id, found.print) == (None, key("d").public.print)


def test_keys_of_a_url_are_not_fetched_yet(tmp_path: Path) -> None:
    loaded = load_policy(policy(tmp_path, 'jwks_url = "https://id/keys"'))
    assert loaded.keyrings["https://id"].fetched
    assert loaded.keyrings["https://id"].keys == ()
    assert list(loaded.files) == [tmp_path / "auth.toml"]


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o777])
@pytest.mark.parametrize("line", ['secret_file = "s"', 'jwks_file = "s"'])
def test_a_secret_that_others_may_read_is_none(tmp_path: Path, mode: int, line: str) -> None:
    item = dict(key("h").jwk)
    private(tmp_path / "s", json.dumps(item if "secret" in line else {"keys": [item]})).chmod(mode)
    with pytest.raises(
        ConfigError, match=rf"line 4: other users may read or write the secret in .* \(mode {mode:04o}\)"
    ):
        load_policy(policy(tmp_path, line))


@pytest.mark.parametrize(
    ("line", "content", "message"),
    [
        ('secret_file = "s"', None, "line 4: cannot read .*: No such file"),
        (
            'secret_file = "s"',
            "short",
            "line 4: .* cannot be used: a secret for HS256 has at least 32 bytes, this one 5",
        ),
        ('secret_file = "s"\nalgorithms = ["HS512"]', "x" * 63, "a secret for HS512 has at least 64 bytes"),
        ('public_key_file = "s"', "x", "line 4: .* cannot be used: it is no public key in PEM"),
        ('jwks_file = "s"', "{}", "line 4: .* cannot be used: it is no set of keys"),
        ('jwks_file = "s"', '{"keys":[]}', "line 4: .* has no key that can be used: it is empty"),
        (
            'jwks_file = "s"',
            '{"keys":[{"kty":"x"}]}',
            "has no key that can be used: key 1: keys of type 'x' are not known",
        ),
        ('jwks_file = "."', None, "line 4: cannot read .*: Is a directory"),
        ('jwks_file = "/dev/zero"', None, "line 4: /dev/zero is a device, a pipe or a socket: name a file"),
        ('jwks_file = "s"', "x" * (FILE_BYTES_MAX + 1), "line 4: .* is longer than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_by_the_line_that_names_it(
    tmp_path: Path, line: str, content: str | None, message: str
) -> None:
    if content is not None:
        private(tmp_path / "s", content)
    with pytest.raises(ConfigError, match=message):
        load_policy(policy(tmp_path, line))


def test_a_policy_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the policy file: cannot read .*: No such file"):
        load_policy(tmp_path / "auth.toml")
    (tmp_path / "auth.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_policy(tmp_path / "auth.toml")
    with pytest.raises(ConfigError, match="cannot read"):
        load_policy(Path("a\0b"))


def test_a_policy_without_issuers_needs_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joserfc", None)
    path = tmp_path / "auth.toml"
    path.write_text('[[allow]]\nwho = "anyone"\nread = ["/"]\n')
    assert load_policy(path).keyrings == {}
    with pytest.raises(ConfigError, match=re.escape("pip install '.[auth]', in a clone of softstate")):
        load_policy(policy(tmp_path, 'jwks_url = "https://id/keys"'))


def test_a_secret_that_only_its_owner_reads_is_taken(tmp_path: Path) -> None:
    private(tmp_path / "s", "x" * 32)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    load_policy(policy(tmp_path, 'secret_file = "s"'))
