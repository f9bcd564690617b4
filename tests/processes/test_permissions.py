"""A real node with a policy file: who is let in, who reads and publishes what, and rules that change."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio

import softstate
from tests.auth.keys import key
from tests.kit import node_rig, push_node
from tests.kit.issuer_policy import issuer
from tests.kit.processes import WAIT_S, Server, command, running, until
from tests.kit.static_tokens import CI, OTHER, ROOT, static

BASE = static("root", ROOT, admin=True)


def policy(path: Path, *tokens: str) -> None:
    (path / "auth.toml").write_text(BASE + "".join(tokens))


def run(server: Server, *words: str, token: str | None = None, code: int = 0) -> str:
    """Run a client command against a node."""
    done = command(server.url, *words, code=code, **({} if token is None else {"SOFTSTATE_TOKEN": token}))
    assert token is None or token not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_commands_present_tokens(tmp_path: Path) -> None:
    policy(tmp_path, static("ci", CI, read=["builds/"], write=["builds/log"]))
    (tmp_path / "token").write_text(CI + "\n")
    with running(tmp_path, auth="auth.toml") as server:
        assert "--token-file" in run(server, "get", "builds/log", code=7)
        run(server, "publish", "builds/log", "1", token=CI)
        assert run(server, "get", "builds/log", token=CI).strip() == "1"
        assert run(server, "get", "builds/log", "--token-file", str(tmp_path / "token")).strip() == "1"
        assert "may not publish" in run(server, "publish", "builds/x", "1", token=CI, code=7)
        assert "may not read" in run(server, "get", "other", token=CI, code=7)
        assert "you may read 'builds/'" in run(server, "list", "/", token=CI, code=7)
        run(server, "status", token=CI, code=7)
        assert '"sessions"' in run(server, "status", "--json", token=ROOT)
        assert "list of processes" in run(server, "get", "builds/log", "--token", CI)
        (tmp_path / "token").write_text(OTHER)
        run(server, "get", "builds/log", "--token-file", str(tmp_path / "token"), "--timeout", "3s", code=7)
        run(server, "get", "builds/log", "--token-file", str(tmp_path / "nothing"), code=2)
        assert server.stop() == 0
        assert CI not in server.log


def rules(path: Path, names: list[str], *keys: str) -> None:
    """Say what those who are signed in may read, and which keys sign them in."""
    policy(path, issuer(path, names, *keys))


def signed(name: str) -> str:
    """Sign a token with a key of the issuer."""
    now = int(time.time())
    return key(name).sign({"iss": "https://id", "aud": "softstate", "sub": "u1", "iat": now, "exp": now + 600})


class Provider:
    """Signs with one key until a token of it is refused, then with another."""

    def __init__(self) -> None:
        self.asked: list[softstate.TokenRequest] = []

    async def __call__(self, why: softstate.TokenRequest) -> str:
        self.asked.append(why)
        return signed("e" if why.rejected is None else "d")


async def follow(server: Server, path: Path) -> None:
    provider = Provider()
    async with (
        softstate.connect(server.url, token=provider) as client,
        client.subscribe("builds/") as builds,
        client.subscribe("docs/") as docs,
        softstate.connect(server.url, token=ROOT) as root,
    ):
        for updates, topic in ((builds, "builds/1"), (docs, "docs/1")):
            await root.publish(topic, "a")
            await until_it_has(updates, topic)
        rules(path, ["builds/"], "e", "d")
        await until_it_is_denied(docs)
        # The key of the present token is removed: it is refused at the next renewal, and another one is presented.
        rules(path, ["builds/"], "d")
        with trio.fail_after(WAIT_S):
            await node_rig.until(lambda: len(provider.asked) >= 2)
        await root.publish("builds/2", "b")
        await until_it_has(builds, "builds/2")
        with trio.fail_after(WAIT_S):
            await push_node.until(client, "live")
        statistics = client.statistics()
        assert statistics.connects == 1
        assert (statistics.repairs_mismatch, statistics.repairs_sent_unequal, statistics.repairs_no_lease) == (0, 0, 0)


async def until_it_is_denied(updates: softstate.Updates) -> None:
    with trio.fail_after(WAIT_S), pytest.raises(softstate.Denied):
        async for _ in updates:
            pass


async def until_it_has(updates: softstate.Updates, topic: str) -> None:
    with trio.fail_after(WAIT_S):
        async for change in updates:
            if change.topic == topic:
                return


def status(server: Server, path: str, token: str | None = None) -> int:
    return server.request("GET", path, headers={} if token is None else {"Authorization": f"Bearer {token}"})[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_node_lets_in_whom_its_file_says_and_reads_it_again(tmp_path: Path, workers: int) -> None:
    rules(tmp_path, ["users/{sub}/"], "e")
    (tmp_path / "auth.toml").write_text(static("ci", CI, read=["builds/"]) + (tmp_path / "auth.toml").read_text())
    token = signed("e")
    with running(tmp_path, auth="auth.toml", workers=workers) as server:
        assert status(server, "/v1/topics/builds/1") == 401
        assert status(server, "/v1/topics/builds/1", CI + "x") == 401
        assert status(server, "/v1/topics/builds/1", CI) == 404
        assert status(server, "/v1/topics/builds/1", token) == 403
        assert status(server, "/v1/topics/users/u1/x", token) == 404
        assert status(server, "/readyz") == 200
        rules(tmp_path, ["users/{sub}/"], "e")
        until("the token is gone", lambda: [status(server, "/v1/whoami", CI) for _ in range(6)] == [401] * 6)
        assert status(server, "/v1/topics/users/u1/x", token) == 404
        assert server.stop() == 0
        assert CI not in server.log
        assert token not in server.log


def test_a_client_goes_on_through_rules_that_change(tmp_path: Path) -> None:
    """S12, S14, S17: names are lost within a renewal, a token is replaced in place, and nothing is repaired."""
    rules(tmp_path, ["builds/", "docs/"], "e", "d")
    with running(tmp_path, auth="auth.toml", ttl="3s") as server:
        trio.run(follow, server, tmp_path)
        assert server.stop() == 0
