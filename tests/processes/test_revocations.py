"""Two real nodes of one store, and credentials that are revoked on one of them, by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kit.processes import ForeignClient, Server, command, running
from tests.kit.static_tokens import CI, OTHER, ROOT, static

POLICY = static("ci", CI, read=["builds/"]) + static("other", OTHER, read=["/"]) + static("root", ROOT, admin=True)


def policy(path: Path) -> None:
    (path / "auth.toml").write_text(POLICY)


def run(server: Server, *words: str, code: int = 0) -> str:
    """Run a client command as the administrator."""
    return command(server.url, *words, code=code, SOFTSTATE_TOKEN=ROOT).stdout


def publish(server: Server, topic: str, value: Any) -> int:
    status, told, _ = server.request("PUT", f"/v1/topics/{topic}", value, {"Authorization": f"Bearer {ROOT}"})
    assert status == 200
    version: int = told["version"]
    return version


def get(server: Server, token: str) -> tuple[int, Any]:
    status, told, _ = server.request("GET", "/v1/topics/builds/1", headers={"Authorization": f"Bearer {token}"})
    return status, told


def subscribed(server: Server, token: str) -> ForeignClient:
    peer = ForeignClient(server)
    peer.send("hello", token=token)
    peer.expect("welcome")
    peer.send("subscribe", id=1, prefixes={"builds/": 0})
    peer.expect("subscribed", id=1)
    return peer


@pytest.mark.parametrize("words", [("sub", "static", "ci"), ("token", CI)])
def test_what_is_published_behind_a_revocation_reaches_nobody_that_it_is_of(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    policy(tmp_path)
    with running(tmp_path, auth="auth.toml") as first, running(tmp_path, auth="auth.toml") as second:
        publish(first, "builds/1", "before")
        with subscribed(second, CI) as peer, subscribed(second, OTHER) as other:
            publish(first, "builds/1", "seen")
            for each in (peer, other):
                each.expect("notify", value="seen")
            run(first, "revoke", *words)
            version = publish(first, "builds/1", "unseen")
            other.expect("notify", value="unseen", version=version)
            peer.expect("revoked", reason="denied")
            peer.send("renew", id=2, count=1, digest="0" * 16)
            peer.expect("error", id=2, code="unauthenticated", why="revoked")
            peer.send("poll", id=3, prefixes={"builds/": 0})
            peer.expect("error", id=3, code="unauthenticated", why="revoked")
            for server in (first, second):
                status, told = get(server, CI)
                assert (status, told["why"]) == (401, "revoked")
                assert get(server, OTHER)[0] == 200
        # Killed at once, and started again: a node reads what is revoked before it lets anybody in.
        second.kill()
        second.start()
        assert get(second, CI)[0] == 401
        assert json.loads(run(second, "revoke", "list", "--json")) != []
        run(second, "revoke", "undo", *words)
        assert get(second, CI)[0] == 200
        with subscribed(second, CI):
            pass
        assert first.stop() == 0
        assert CI not in first.log + second.log
        assert "revoked" in first.log
