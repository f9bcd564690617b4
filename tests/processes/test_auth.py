"""A real node with a policy file: who is let in, and that a change of the file is noticed without a restart."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from pathlib import Path

import pytest

from tests.auth.keys import key
from tests.kit.processes import Server, running, until

SECRET = "sst_" + "c" * 43
POLICY = """
[[auth.issuer]]
issuer = "https://id"
audience = ["softstate"]
jwks_file = "keys.json"

[[allow]]
who = "signed-in"
read = ["users/{sub}/"]
"""
STATIC = f'[[auth.token]]\nname = "ci"\nsha256 = "{sha256(SECRET.encode()).hexdigest()}"\nread = ["builds/"]\n'


def status(server: Server, path: str, token: str | None = None) -> int:
    return server.request("GET", path, headers={} if token is None else {"Authorization": f"Bearer {token}"})[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_node_lets_in_whom_its_file_says_and_reads_it_again(tmp_path: Path, workers: int) -> None:
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key("e").public_jwk()]}))
    (tmp_path / "auth.toml").write_text(POLICY + STATIC)
    now = int(time.time())
    signed = key("e").sign({"iss": "https://id", "aud": "softstate", "sub": "u1", "iat": now, "exp": now + 600})
    with running(tmp_path, auth="auth.toml", workers=workers) as server:
        assert status(server, "/v1/topics/builds/1") == 401
        assert status(server, "/v1/topics/builds/1", SECRET + "x") == 401
        assert status(server, "/v1/topics/builds/1", SECRET) == 404
        assert status(server, "/v1/topics/builds/1", signed) == 403
        assert status(server, "/v1/topics/users/u1/x", signed) == 404
        assert status(server, "/readyz") == 200
        (tmp_path / "auth.toml").write_text(POLICY)
        until("the token is gone", lambda: [status(server, "/v1/whoami", SECRET) for _ in range(6)] == [401] * 6)
        assert status(server, "/v1/topics/users/u1/x", signed) == 404
        assert server.stop() == 0
        assert SECRET not in server.log
        assert signed not in server.log
