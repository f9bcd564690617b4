"""The shell of the callout: what it asks, how often, and what becomes of answers that are none."""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from softstate.auth.answers import Unasked, Waiter
from softstate.auth.identity import Identity, Why
from softstate.auth.policy_file import read_policy
from softstate.errors import ConfigError, RequestError
from softstate.server.auth import callout as module
from softstate.server.auth.callout import ANSWER_BYTES_MAX
from softstate.server.auth.keeper import PolicyKeeper
from softstate.server.auth.policy_files import load_policy
from softstate.server.bulkhead import Bulkhead
from softstate.wire.messages import Reason
from tests.auth.tokens import WALL, Refused
from tests.kit.backend import Backend
from tests.kit.threads import at_once
from tests.server.auth.test_keeper import write

SECRET = "s" * 32
POLICY = """
[auth.callout]
url = "https://app.example:8443/who?node=1"
secret_file = "callout.secret"
inflight_max = 4
[[allow]]
who = "signed-in"
read = ["users/{sub}/"]
"""


class Rig:
    def __init__(self, path: Path, backend: Backend) -> None:
        self.backend = backend
        self.bulkhead = Bulkhead(strict=False)
        self.keeper = PolicyKeeper(
            path, trio.current_time, self.bulkhead, open_stream=backend.open_stream, in_thread=at_once,
            wall=lambda: WALL + 0.9,
        )  # fmt: skip
        self.authority = self.keeper.authority
        self.lost: list[tuple[list[str], Reason]] = []
        self.authority.on_lost = self._lose

    def _lose(self, tokens: Mapping[str, str], reason: Reason) -> None:
        self.lost.append((sorted(tokens), reason))

    async def ask(self, token: str) -> RequestError | None:
        """Have a token asked about; return why there is no answer."""
        told: list[RequestError | None] = []
        event = trio.Event()

        def settled(error: RequestError | None) -> None:
            told.append(error)
            event.set()

        self.authority.ask(token, "192.0.2.1", Waiter(settled, lambda: None), trio.current_time())
        await event.wait()
        return told[0]

    async def identify(self, token: str) -> Identity:
        try:
            return self.authority.identify(token, trio.current_time(), WALL)
        except Unasked:
            if (error := await self.ask(token)) is not None:
                raise error from None
        return self.authority.identify(token, trio.current_time(), WALL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "callout.secret").touch(0o600)
    (tmp_path / "callout.secret").write_text(SECRET + "\n")
    write(tmp_path / "auth.toml", POLICY)
    return tmp_path / "auth.toml"


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        rig = Rig(path, Backend())
        rig.backend.nursery = nursery
        await nursery.start(rig.keeper.run)
        rig.backend.subjects["good"] = "u1"
        yield rig
        nursery.cancel_scope.cancel()


async def test_a_token_is_asked_about_and_the_question_signed(path: Path, autojump_clock: MockClock) -> None:
    async with running(path) as rig:
        assert (await rig.identify("good")).principal == ("callout", "u1")
        with Refused(Why.UNACCEPTED):
            await rig.identify("bad")
        assert rig.backend.opened == [("app.example", 8443, True)], "one connection, kept"
        assert rig.backend.asked[0] == {"version": 1, "credentials": "good", "peer": "192.0.2.1"}
        head = rig.backend.heads[0]
        assert head.startswith("POST /who?node=1 HTTP/1.1\r\nHost: app.example:8443\r\n")
        body = json.dumps(rig.backend.asked[0]).encode()
        mac = hmac.new(SECRET.encode(), f"{int(WALL)}.".encode() + body, "sha256").hexdigest()
        assert f"Softstate-Signature: t={int(WALL)},v1={mac}" in head


async def test_all_who_present_one_token_share_a_question(path: Path, autojump_clock: MockClock) -> None:
    async with running(path) as rig, trio.open_nursery() as nursery:
        rig.backend.takes_s = 1.0
        for _ in range(50):
            nursery.start_soon(rig.identify, "good")
        await trio.sleep(2)
        assert len(rig.backend.asked) == 1


async def test_so_many_questions_are_on_their_way_at_once(path: Path, autojump_clock: MockClock) -> None:
    async with running(path) as rig:
        rig.backend.takes_s = 0.5
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(rig.ask, f"token{number}")
        assert (len(rig.backend.asked), rig.backend.most) == (12, 4)
        # Those that would wait for longer than an answer may take are told.
        errors: list[RequestError | None] = []

        async def ask(token: str) -> None:
            errors.append(await rig.ask(token))

        async with trio.open_nursery() as nursery:
            for number in range(24):
                nursery.start_soon(ask, f"more{number}")
        late = [error.message for error in errors if error is not None]
        assert 0 < len(late) < 24
        (message,) = set(late)
        assert "cannot be asked now (too many tokens are asked about at a time): present the token again" in message


@pytest.mark.parametrize(
    ("fault", "because"),
    [
        ({"down": True}, "https://app.example:8443/who?node=1 cannot be reached: refused"),
        ({"silent": True}, "https://app.example:8443/who?node=1 does not answer within 2000 ms"),
        ({"takes_s": 2.5}, "https://app.example:8443/who?node=1 does not answer within 2000 ms"),
        ({"status": 500}, "https://app.example:8443/who?node=1 answers with status 500"),
        ({"status": 401}, "https://app.example:8443/who?node=1 answers with status 401"),
        ({"status": 204, "body": b""}, "https://app.example:8443/who?node=1 answers with status 204"),
        ({"status": 302}, "https://app.example:8443/who?node=1 answers with status 302: redirects are not followed"),
        ({"body": b"<html>"}, "the answer is not JSON"),
        ({"body": b"{}"}, "the answer must be an object with an 'identity', which is null if the token is not good"),
        ({"body": b'{"identity": 1}'}, "'identity' of the answer must be an object, or null"),
        ({"body": b" " * 1_000_000}, "https://app.example:8443/who?node=1: the response is longer than 65536 bytes"),
    ],
)
async def test_an_answer_that_is_none_is_logged_with_what_is_wrong_and_counts_as_down(
    path: Path, autojump_clock: MockClock, fault: dict[str, object], because: str
) -> None:
    async with running(path) as rig:
        rig.backend.closes = True
        identity = await rig.identify("good")
        for name, value in fault.items():
            setattr(rig.backend, name, value)
        with capture_logs() as lines:
            began = trio.current_time()
            error = await rig.ask("new")
            assert trio.current_time() - began <= 2.1
        assert error is not None
        assert (error.code, error.retry_ms) == ("unavailable", 1_000), "not as denied, which is final"
        assert because in error.message
        assert [(line["event"], line["because"]) for line in lines] == [("callout failed", because)]
        asked = len(rig.backend.asked) + len(rig.backend.opened)
        await trio.sleep(1)
        assert len(rig.backend.asked) + len(rig.backend.opened) == asked, "it is not asked again"
        # Those who are known stay so, for a while.
        await trio.sleep(100)
        assert (await rig.identify("good")).principal == identity.principal
        rig.backend.__dict__.update({"down": False, "silent": False, "takes_s": 0.0, "status": 200, "body": None})
        with capture_logs() as lines:
            await trio.sleep(30)
            assert (await rig.identify("good")).principal == identity.principal
            await trio.sleep(120)
        assert [line["event"] for line in lines] == ["callout answers again"]
        assert rig.lost == []


async def test_the_longest_answer_is_taken(path: Path, autojump_clock: MockClock) -> None:
    async with running(path) as rig:
        body = b'{"identity": {"subject": "u9"}}'
        rig.backend.body = body + b" " * (ANSWER_BYTES_MAX - len(body))
        assert (await rig.identify("x")).subject == "u9"


async def test_who_is_known_stays_so_while_it_is_down_and_then_is_over(path: Path, autojump_clock: MockClock) -> None:
    async with running(path) as rig:
        identity = await rig.identify("good")
        rig.backend.down = True
        await trio.sleep(60 + 299)
        assert rig.lost == []
        await trio.sleep(2)
        assert rig.lost == [([identity.token], "overloaded")]
        questions = len(rig.backend.opened)
        assert questions <= 2 + 300 / 5
        await trio.sleep(1_000)
        assert len(rig.backend.opened) == questions


async def test_it_is_asked_again_about_those_who_are_here_alone(path: Path, autojump_clock: MockClock) -> None:
    async with running(path) as rig:
        identity = await rig.identify("good")
        await rig.identify("good")
        await rig.ask("bad")
        await trio.sleep(10 * 60 + 1)
        assert [each["credentials"] for each in rig.backend.asked] == ["good", "bad", *["good"] * 10]
        rig.backend.subjects.clear()
        await trio.sleep(60)
        assert rig.lost == [([identity.token], "denied")]


async def test_a_kept_connection_that_it_has_closed_costs_nobody_an_answer(
    path: Path, autojump_clock: MockClock
) -> None:
    async with running(path) as rig:
        rig.backend.closes = True
        for number in range(3):
            rig.backend.subjects[str(number)] = f"u{number}"
            assert (await rig.identify(str(number))).subject == f"u{number}"
        assert len(rig.backend.opened) == 3


async def test_a_bug_of_one_who_waits_ends_nobody_else(path: Path, autojump_clock: MockClock) -> None:
    async with running(path) as rig:
        broken: list[str] = []

        def settled(_error: RequestError | None) -> None:
            raise ZeroDivisionError

        rig.authority.ask("good", "", Waiter(settled, partial(broken.append, "x")), trio.current_time())
        assert await rig.ask("good") is None
        assert broken == ["x"]
        assert rig.bulkhead.bugs == 1


async def test_a_bug_in_the_shell_is_an_answer_that_is_none(
    path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(path) as rig:
        with monkeypatch.context() as patch:
            patch.setattr(module, "question", lambda _token, _peer: 1 // 0)
            error = await rig.ask("good")
            assert error is not None
            assert error.code == "unavailable"
        assert await rig.ask("good") is None
        assert rig.authority.answers is not None
        assert rig.authority.answers.inflight == 0


async def test_the_policy_may_change_the_callout_or_leave_it_out(path: Path, autojump_clock: MockClock) -> None:
    async with running(path) as rig:
        identity = await rig.identify("good")
        write(path, POLICY.replace("8443", "9443"))
        await rig.keeper.reload()
        await trio.sleep(1)
        assert rig.backend.opened[-1] == ("app.example", 9443, True), "it is asked about those who are here"
        write(path, '[[allow]]\nwho = "anyone"\nread = ["a"]\n')
        await rig.keeper.reload()
        with Refused(Why.REVOKED):
            rig.authority.again(identity, trio.current_time())
        write(path, POLICY)
        await rig.keeper.reload()
        assert (await rig.identify("good")).subject == "u1"


async def test_an_answer_of_the_callout_before_counts_for_nothing(path: Path, autojump_clock: MockClock) -> None:
    async with running(path) as rig, trio.open_nursery() as nursery:
        rig.backend.takes_s = 1.0
        errors: list[RequestError | None] = []

        async def ask() -> None:
            errors.append(await rig.ask("good"))

        nursery.start_soon(ask)
        await trio.sleep(0.5)
        write(path, POLICY.replace("app.", "other."))
        await rig.keeper.reload()
        await trio.sleep(1)
        (error,) = errors
        assert error is not None
        assert "the policy names another callout now" in error.message
        with pytest.raises(Unasked):
            rig.authority.identify("good", trio.current_time(), WALL)
        assert (await rig.identify("good")).subject == "u1"
        assert [host for host, _, _ in rig.backend.opened] == ["app.example", "other.example"]


def test_the_secret_is_long_and_nobody_elses(path: Path) -> None:
    assert load_policy(path).secret == SECRET.encode()
    secret = path.parent / "callout.secret"
    assert secret in load_policy(path).files
    secret.write_text("short")
    with pytest.raises(ConfigError, match=r"\[auth.callout\] in .*, line 2: the secret in .* must have 32 bytes"):
        load_policy(path)
    secret.write_text(SECRET)
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match="other users may read or write the secret"):
        load_policy(path)
    secret.unlink()
    with pytest.raises(ConfigError, match="cannot read"):
        load_policy(path)
    assert read_policy(path.read_text(), "x").policy.callout is not None
