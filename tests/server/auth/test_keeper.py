from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from softstate.auth.identity import Why
from softstate.errors import ConfigError
from softstate.server.auth import keeper
from softstate.server.auth.keeper import PolicyKeeper
from softstate.server.bulkhead import RETRY_S, Bulkhead
from tests.auth.keys import key
from tests.auth.tokens import WALL, Refused, claims
from tests.kit.threads import at_once
from tests.server.auth.issuer import FakeIssuer

ISSUER = '[[auth.issuer]]\nissuer = "https://id"\naudience = ["softstate"]\n'
FETCHED = ISSUER + 'jwks_url = "https://id/keys"\n'
ALLOW = '[[allow]]\nwho = "signed-in"\nread = ["users/{sub}/"]\n'


def write(path: Path, content: str) -> None:
    """Write a file so that its modification time is another for sure."""
    later = path.stat().st_mtime_ns + 1_000_000_000 if path.exists() else None
    path.write_text(content)
    if later is not None:
        os.utime(path, ns=(later, later))


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "auth.toml", FETCHED + ALLOW)
    return tmp_path / "auth.toml"


class Rig:
    def __init__(self, path: Path, issuer: FakeIssuer) -> None:
        self.issuer = issuer
        self.bulkhead = Bulkhead()
        self.keeper = PolicyKeeper(
            path, trio.current_time, self.bulkhead, open_stream=issuer.open_stream, in_thread=at_once
        )

    @property
    def changes(self) -> int:
        return self.keeper.authority.generation - 1

    def identify(self, name: str) -> str:
        token = key(name).sign(claims(iat=WALL - 60, exp=WALL + 80_000))
        return self.keeper.authority.identify(token, trio.current_time(), WALL).subject


@asynccontextmanager
async def running(path: Path, *keys: str) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        rig = Rig(path, FakeIssuer(*keys))
        rig.issuer.nursery = nursery
        await nursery.start(rig.keeper.run)
        yield rig
        nursery.cancel_scope.cancel()


async def test_it_has_the_keys_once_it_has_started(path: Path, autojump_clock: MockClock) -> None:
    async with running(path, "e") as rig:
        assert rig.identify("e") == "u1"
        assert rig.changes == 0


async def test_it_starts_although_the_issuer_is_down(path: Path, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        rig = Rig(path, FakeIssuer("e"))
        rig.issuer.nursery = nursery
        rig.issuer.down = True
        await nursery.start(rig.keeper.run)
        with Refused(Why.UNKNOWN_KEY):
            rig.identify("e")
        rig.issuer.down = False
        await trio.sleep(31)
        assert rig.identify("e") == "u1"
        nursery.cancel_scope.cancel()


async def test_a_quiet_hour_takes_twelve_fetches(path: Path, autojump_clock: MockClock) -> None:
    async with running(path, "e") as rig:
        await trio.sleep(3_599)
        assert len(rig.issuer.asked) == 12


async def test_a_new_key_is_looked_for_when_its_first_token_comes(path: Path, autojump_clock: MockClock) -> None:
    async with running(path, "e") as rig:
        await trio.sleep(100)
        rig.issuer.keys.append(key("d").public_jwk())
        with Refused(Why.UNKNOWN_KEY) as caught:
            rig.identify("d")
        assert "(known: 'e'; looked 100 s ago)" in caught.value.message
        await wait_all_tasks_blocked()
        assert rig.identify("d") == "u1"
        assert trio.current_time() < 101
        with Refused(Why.UNKNOWN_KEY):
            rig.identify("r")
        await wait_all_tasks_blocked()
        assert len(rig.issuer.asked) == 2
        assert rig.changes == 0


async def test_a_key_that_is_gone_changes_the_rules(path: Path, autojump_clock: MockClock) -> None:
    async with running(path, "e", "d") as rig:
        rig.identify("e")
        del rig.issuer.keys[0]
        await trio.sleep(301)
        assert rig.changes == 1
        with Refused(Why.UNKNOWN_KEY):
            rig.identify("e")


async def test_an_outage_leaves_the_keys(path: Path, autojump_clock: MockClock) -> None:
    async with running(path, "e") as rig:
        rig.issuer.down = True
        await trio.sleep(3_600)
        assert rig.identify("e") == "u1"
        assert "refused" in rig.keeper.authority.keyrings["https://id"].failure
        rig.issuer.down = False
        rig.issuer.body = b"{}"
        await trio.sleep(600)
        assert rig.identify("e") == "u1"


async def test_keys_that_are_too_old_change_the_rules(path: Path, autojump_clock: MockClock) -> None:
    """Else a token that was verified, or a session, would outlive the key that has signed it."""
    write(path, FETCHED + "stale_s = 600\n" + ALLOW)
    async with running(path, "e") as rig:
        assert rig.identify("e") == "u1"
        rig.issuer.down = True
        await trio.sleep(590)
        assert (rig.identify("e"), rig.changes) == ("u1", 0)
        await trio.sleep(60)
        with Refused(Why.UNKNOWN_KEY):
            rig.identify("e")
        assert rig.changes == 1
        rig.issuer.down = False
        await trio.sleep(31)
        assert (rig.identify("e"), rig.changes) == ("u1", 1)


async def test_a_file_that_changes_is_read_again(path: Path, autojump_clock: MockClock) -> None:
    async with running(path, "e") as rig:
        write(path, FETCHED + ALLOW.replace("users", "people"))
        await trio.sleep(6)
        assert rig.changes == 1
        assert rig.keeper.authority.policy.allows[0].read == ("people/{sub}/",)
        assert rig.identify("e") == "u1"
        assert len(rig.issuer.asked) == 1  # the keys are the same
        await trio.sleep(60)
        assert rig.changes == 1


async def test_a_file_that_is_being_written_is_not_read_yet(path: Path, autojump_clock: MockClock) -> None:
    async with running(path, "e") as rig:
        await trio.sleep(4.9)
        for rules in range(1, 5):
            write(path, FETCHED + ALLOW * rules)
            await trio.sleep(0.4)
            assert rig.changes == 0
        await trio.sleep(1)
        assert (rig.changes, len(rig.keeper.authority.policy.allows)) == (1, 4)


async def test_a_file_is_read_at_once_if_asked_and_one_with_a_mistake_changes_nothing(
    path: Path, autojump_clock: MockClock
) -> None:
    async with running(path, "e") as rig:
        for content, changes in ((FETCHED + ALLOW + ALLOW, 1), ("[[alow]]", 1), (FETCHED + ALLOW, 2)):
            write(path, content)
            rig.keeper.reload_soon()
            await wait_all_tasks_blocked()
            assert rig.changes == changes
        assert trio.current_time() == 0
        await trio.sleep(60)
        assert rig.changes == 2, "as it was read, it is not read again"


async def test_a_file_with_a_mistake_changes_nothing(path: Path, autojump_clock: MockClock) -> None:
    async with running(path, "e") as rig:
        write(path, "[[alow]]")
        await trio.sleep(6)
        assert (rig.changes, rig.identify("e")) == (0, "u1")
        with pytest.raises(ConfigError, match="unknown key alow"):
            await rig.keeper.reload()
        remove(path)
        await trio.sleep(6)
        assert (rig.changes, rig.identify("e")) == (0, "u1")


async def test_a_source_that_changes_is_fetched(path: Path, autojump_clock: MockClock) -> None:
    async with running(path, "e") as rig:
        write(path, FETCHED.replace("/keys", "/other") + ALLOW)
        await rig.keeper.reload()
        await wait_all_tasks_blocked()
        assert rig.issuer.asked == ["/keys", "/other"]
        assert rig.identify("e") == "u1"


async def test_a_change_elsewhere_in_the_file_leaves_fetched_keys(path: Path, autojump_clock: MockClock) -> None:
    """A rule above the issuer moves it to another line: its keys are no others, and the issuer may be down."""
    async with running(path, "e") as rig:
        rig.issuer.down = True
        write(path, ALLOW + "\n" + FETCHED)
        await rig.keeper.reload()
        assert rig.identify("e") == "u1"


async def test_a_file_of_keys_that_changes_is_read_again(path: Path, autojump_clock: MockClock) -> None:
    keys = path.with_name("keys.json")
    write(keys, json.dumps({"keys": [key("e").public_jwk()]}))
    write(path, ISSUER + 'jwks_file = "keys.json"\n' + ALLOW)
    async with running(path) as rig:
        assert rig.identify("e") == "u1"
        write(keys, json.dumps({"keys": [key("d").public_jwk()]}))
        await trio.sleep(6)
        assert rig.identify("d") == "u1"
        with Refused(Why.UNKNOWN_KEY):
            rig.identify("e")
        assert rig.issuer.asked == []


def bug(*_: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(("place", "for_s"), [("fetch_keys", 310), ("stamps_of", 20)])
async def test_a_bug_is_contained(
    place: str, for_s: float, path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bulkhead, "strict_by_default", False)
    async with running(path, "e") as rig:
        with monkeypatch.context() as patched:
            patched.setattr(keeper, place, bug)
            await trio.sleep(for_s)
            assert rig.bulkhead.bugs > 0
            assert rig.identify("e") == "u1"
        write(path, FETCHED + ALLOW + ALLOW)
        del rig.issuer.keys[0]
        rig.issuer.keys.append(key("d").public_jwk())
        await trio.sleep(400)
        assert rig.identify("d") == "u1"
        assert len(rig.keeper.authority.policy.allows) == 2


async def test_a_bug_in_a_round_is_contained(
    path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bulkhead, "strict_by_default", False)
    async with running(path, "e") as rig:
        with monkeypatch.context() as patched:
            patched.setattr(PolicyKeeper, "_begin_due", bug)
            await trio.sleep(300 + 10 * RETRY_S)
            assert 0 < rig.bulkhead.bugs <= 11, "one a second, once the next fetch is due"
        await trio.sleep(2 * RETRY_S)
        assert len(rig.issuer.asked) == 2


async def test_a_policy_in_the_configuration_file_is_read_again_with_it(path: Path, autojump_clock: MockClock) -> None:
    write(path, 'ttl = "60s"\n' + FETCHED + ALLOW)
    keeper = PolicyKeeper(
        path, trio.current_time, Bulkhead(), open_stream=FakeIssuer().open_stream, in_thread=at_once, beside=("ttl",)
    )
    write(path, 'ttl = "30s"\n' + FETCHED + ALLOW + '[[allow]]\nwho = "anyone"\nread = ["x"]\n')
    await keeper.reload()
    assert keeper.authority.identify(None, 0.0, 0.0).grant.may_read("x")
    write(path, 'ttl = "30s"\n' + FETCHED + ALLOW + "[[alow]]\n")
    with pytest.raises(ConfigError, match="unknown key alow"):
        await keeper.reload()
