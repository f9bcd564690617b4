"""``softstate revoke`` at a node in this process: what is in force afterwards, what is printed, and exit codes."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from softstate.auth.digests import digest_of
from softstate.auth.identity import NOTHING, Identity
from softstate.auth.revocations import REVOKED, Revocation, key_topic, revocation_of, subject_topic, token_topic
from softstate.auth.token import signed_part
from softstate.cli.commands.revoke import publishing
from softstate.cli.processes.child import free_port
from softstate.errors import Overloaded, Unavailable
from softstate.wire import decode_value
from tests.auth.tokens import token
from tests.cli.commands.revoke.conftest import ADMIN, NOW, READER, Ran, Running

Output = Callable[..., list[str]]

ISSUER = "https://id.example"
SUB = ("sub", ISSUER, "u1")
TOPIC = subject_topic(ISSUER, "u1")
U1 = Identity(ISSUER, "u1", NOTHING, key="k1", issued_at=NOW - 60, token_id=digest_of("j1"))
DAY_S = 86_400.0


async def in_force(running: Running, topic: str = TOPIC) -> Revocation:
    found = revocation_of((await running.records())[topic])
    assert found is not None
    return replace(found, version=0)


def fields(out: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(" ") for line in out.splitlines())}


@pytest.fixture
def stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Give the commands something on standard input."""
    with ExitStack() as files:

        def give(text: str) -> None:
            (tmp_path / "stdin").write_text(text)
            monkeypatch.setattr(sys, "stdin", files.enter_context((tmp_path / "stdin").open()))

        yield give


# sub -----------------------------------------------------------------------------------------------------------------


async def test_a_subject_is_over_and_may_sign_in_again(running: Running, ran: Ran) -> None:
    code, out, err = await ran(*SUB, "--reason", "left", "--url", running.url)
    assert (code, err) == (0, "")
    assert await in_force(running) == Revocation(TOPIC, NOW, NOW + DAY_S, "left")
    known = await running.known()
    assert known.of(U1) is not None
    assert known.of(replace(U1, issued_at=NOW)) is None
    assert known.of(replace(U1, subject="u2")) is None
    assert fields(out) == {
        "revoked": "all credentials of u1 of https://id.example",
        "issued": "before 2026-11-30T00:53:20Z; what is issued later is good",
        "until": "2026-12-01T00:53:20Z",
        "reason": "left",
        "topic": TOPIC,
    }


@pytest.mark.parametrize(
    ("words", "before", "until"),
    [
        (["--for", "90m"], NOW, NOW + 5_400),
        (["--for", "ever"], NOW, math.inf),
        (["--before", "ever"], math.inf, math.inf),
        (["--before", "ever", "--for", "48h"], math.inf, NOW + 2 * DAY_S),
        (["--before", "1795000000.5"], 1_795_000_000.5, NOW + DAY_S),
        (["--before", "2026-11-30T02:00:00+01:00"], NOW + 400, NOW + DAY_S),
    ],
)
async def test_it_says_for_how_long_and_what_is_meant(
    words: list[str], before: float, until: float, running: Running, ran: Ran
) -> None:
    assert (await ran(*SUB, *words, "--url", running.url))[0] == 0
    assert await in_force(running) == Revocation(TOPIC, before, until)


async def test_a_static_subject_is_over_for_good_and_its_lines_are_to_go(running: Running, ran: Ran) -> None:
    code, out, _ = await ran("sub", "static", "ci", "--url", running.url)
    assert code == 0
    topic = subject_topic("static", "ci")
    assert await in_force(running, topic) == Revocation(topic)
    assert fields(out)["issued"] == "at any time"
    assert fields(out)["until"] == "ever"
    assert "out of the policy file" in fields(out)["next"]


@pytest.mark.parametrize("issuer", ["proxy", "callout"])
async def test_a_subject_without_a_time_of_issue_is_over_for_good(issuer: str, running: Running, ran: Ran) -> None:
    """After a day it would be good again, without having signed in."""
    code, out, _ = await ran("sub", issuer, "u1", "--url", running.url)
    assert code == 0
    topic = subject_topic(issuer, "u1")
    assert await in_force(running, topic) == Revocation(topic)
    assert f"have the {issuer} refuse it" in fields(out)["next"]


async def test_certificates_which_may_live_for_years_are_over_for_good(running: Running, ran: Ran) -> None:
    code, out, _ = await ran("sub", "mtls", "u1", "--url", running.url)
    assert code == 0
    topic = subject_topic("mtls", "u1")
    assert await in_force(running, topic) == Revocation(topic, before=NOW)
    assert fields(out)["until"] == "ever"


async def test_what_reaches_further_is_kept(running: Running, ran: Ran) -> None:
    url = ("--url", running.url)
    await ran(*SUB, "--before", "ever", "--for", "48h", "--reason", "stolen", *url)
    code, out, _ = await ran(*SUB, "--for", "1h", *url)
    assert code == 0
    assert await in_force(running) == Revocation(TOPIC, math.inf, NOW + 2 * DAY_S, "stolen")
    assert fields(out)["issued"] == "at any time"
    assert fields(out)["until"] == "2026-12-02T00:53:20Z"
    assert "reaches further" in fields(out)["kept"]


async def test_what_reaches_further_takes_the_place(running: Running, ran: Ran) -> None:
    url = ("--url", running.url)
    await ran(*SUB, "--before", "1795000000", "--for", "1h", "--reason", "first", *url)
    _, out, _ = await ran(*SUB, "--for", "ever", "--reason", "second", *url)
    assert await in_force(running) == Revocation(TOPIC, NOW, math.inf, "second")
    assert "kept" not in fields(out)


@pytest.mark.parametrize("value", [None, 7, {"until": "soon"}])
async def test_a_value_that_revokes_for_good_because_it_is_wrong_is_not_weakened(
    value: object, running: Running, ran: Ran
) -> None:
    await running.put(TOPIC, value)
    assert (await ran(*SUB, "--url", running.url))[0] == 0
    assert await in_force(running) == Revocation(TOPIC)


async def test_one_that_was_undone_is_not_remembered(running: Running, ran: Ran) -> None:
    url = ("--url", running.url)
    await ran(*SUB, "--for", "ever", *url)
    await ran("undo", *SUB, *url)
    assert (await ran(*SUB, "--for", "1h", *url))[0] == 0
    assert await in_force(running) == Revocation(TOPIC, NOW, NOW + 3_600)


def meddling(running: Running, monkeypatch: pytest.MonkeyPatch, times: int, value: dict[str, Any]) -> None:
    """Have another program change the topic after each of so many reads."""
    read, left = publishing._Topic.read, [times]
    token = trio.lowlevel.current_trio_token()

    async def reading(topic: publishing._Topic) -> Any:
        found = await read(topic)
        if left[0]:
            left[0] -= 1
            await trio.to_thread.run_sync(
                lambda: trio.from_thread.run(running.put, topic.name, value, trio_token=token)
            )
        return found

    monkeypatch.setattr(publishing._Topic, "read", reading)


async def test_a_change_between_reading_and_writing_is_taken_in(
    running: Running, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    meddling(running, monkeypatch, 2, {"before": NOW + 5, "until": NOW + 5})
    assert (await ran(*SUB, "--url", running.url))[0] == 0
    assert await in_force(running) == Revocation(TOPIC, NOW + 5, NOW + DAY_S)


@pytest.mark.parametrize("words", [SUB, ("undo", *SUB)])
async def test_changes_without_end_lose_nothing(
    words: tuple[str, ...], running: Running, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.put(TOPIC, {})
    meddling(running, monkeypatch, publishing.TRIES, {})
    code, out, err = await ran(*words, "--url", running.url)
    assert (code, out) == (4, "")
    assert err.startswith("softstate: nothing was ")
    assert "Repeat the command" in err
    assert await in_force(running) == Revocation(TOPIC)


# token ---------------------------------------------------------------------------------------------------------------


async def test_a_signed_token_is_over_until_it_has_ended(
    running: Running, ran: Ran, stdin: Callable[[str], None]
) -> None:
    text = token(exp=NOW + 600, jti="j1")
    stdin(text + "\n")
    code, out, err = await ran("token", "-", "--url", running.url)
    assert (code, err) == (0, "")
    topic = token_topic(text)
    assert await in_force(running, topic) == Revocation(topic, until=NOW + 600 + 660)
    assert fields(out)["revoked"] == "this token"
    assert all(part not in out for part in text.split("."))
    holder = replace(U1, token=digest_of(signed_part(text) or ""))
    assert (await running.known()).of(holder) is not None
    assert (await running.known()).of(replace(holder, token="")) is None


async def test_a_token_is_revoked_by_its_id(running: Running, ran: Ran) -> None:
    code, out, err = await ran("token", "j1", "--url", running.url)
    assert (code, err) == (0, "")
    assert await in_force(running, token_topic("j1")) == Revocation(token_topic("j1"))
    assert fields(out)["revoked"] == "every token of this ID"
    assert (await running.known()).of(U1) is not None
    assert (await running.known()).of(replace(U1, token_id=digest_of("j2"))) is None


async def test_a_static_token_is_over_for_good(running: Running, ran: Ran) -> None:
    code, out, err = await ran("token", READER, "--for", "1h", "--url", running.url)
    assert code == 0
    assert "list of processes" in err
    assert await in_force(running, token_topic(READER)) == Revocation(token_topic(READER), until=NOW + 3_600)
    assert (await ran("token", READER, "--url", running.url))[0] == 0
    assert await in_force(running, token_topic(READER)) == Revocation(token_topic(READER))
    assert "out of the policy file" in fields(out)["next"]
    assert READER not in out + err
    holder = Identity("static", "reader", NOTHING, token=digest_of(READER))
    assert (await running.known()).of(holder) is not None


# key -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kid", "shown"), [("k1", "key k1"), ("", "the key without an ID")])
async def test_all_that_a_key_has_signed_is_over(kid: str, shown: str, running: Running, ran: Ran) -> None:
    code, out, _ = await ran("key", ISSUER, kid, "--url", running.url)
    assert code == 0
    topic = key_topic(ISSUER, kid)
    assert await in_force(running, topic) == Revocation(topic)
    assert fields(out)["revoked"] == f"all that {shown} of {ISSUER} has signed"
    known = await running.known()
    assert known.of(replace(U1, key=kid)) is not None
    assert known.of(replace(U1, key="k2")) is None


# list ----------------------------------------------------------------------------------------------------------------


async def test_all_that_is_revoked_is_listed(running: Running, ran: Ran) -> None:
    url = ("--url", running.url)
    await ran(*SUB, "--reason", "left the company", *url)
    await ran("key", ISSUER, "k1", "--for", "1h", *url)
    await ran("token", "j1", *url)
    code, out, err = await ran("list", *url)
    assert (code, err) == (0, "")
    assert sorted(line.split("\t") for line in out.splitlines()) == [
        ["key", key_topic(ISSUER, "k1"), "always", "until 2026-11-30T01:53:20Z"],
        ["sub", TOPIC, "before 2026-11-30T00:53:20Z", "until 2026-12-01T00:53:20Z", "left the company"],
        ["token", token_topic("j1"), "always", "until ever"],
    ]
    _, out, _ = await ran("list", "--json", *url)
    versions = {topic: record.version for topic, record in (await running.records()).items()}
    assert {entry.pop("topic"): entry for entry in map(json.loads, out.splitlines())} == {
        key_topic(ISSUER, "k1"): {"kind": "key", "version": versions[key_topic(ISSUER, "k1")], "until": NOW + 3_600},
        TOPIC: {
            "kind": "sub", "version": versions[TOPIC], "before": NOW, "until": NOW + DAY_S,
            "reason": "left the company",
        },
        token_topic("j1"): {"kind": "token", "version": versions[token_topic("j1")]},
    }  # fmt: skip


async def test_what_cannot_be_listed_is_named(running: Running, ran: Ran) -> None:
    odd = f"{REVOKED}other/x"
    for topic in (odd, TOPIC, token_topic("j1")):
        await running.put(topic, {"reason": "\u202e"})
    running.node.store.disk.image.damage(TOPIC)  # type: ignore[attr-defined]
    code, out, err = await ran("list", "--url", running.url)
    assert code == 0
    assert out == f"token\t{token_topic('j1')}\talways\tuntil ever\t\\u202e\n"
    damaged, other = err.splitlines()
    assert "damaged in the store, and so in force without end" in damaged
    assert TOPIC in damaged
    assert other == f"softstate: left out, since it names nothing that can be revoked: {odd}."


# undo ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "topic"),
    [
        (list(SUB), TOPIC),
        (["token", "j1"], token_topic("j1")),
        (["token", "-"], token_topic(READER)),
        (["key", ISSUER, "k1"], key_topic(ISSUER, "k1")),
        (["key", ISSUER, ""], key_topic(ISSUER, "")),
        ([TOPIC], TOPIC),
        ([f"{REVOKED}other/x"], f"{REVOKED}other/x"),
    ],
)
async def test_a_revocation_is_taken_back_once(
    words: list[str], topic: str, running: Running, ran: Ran, stdin: Callable[[str], None]
) -> None:
    kept = token_topic("another")
    for name in (topic, kept):
        await running.put(name, {})
    stdin(READER)
    code, out, err = await ran("undo", *words, "--url", running.url)
    assert (code, err) == (0, "")
    assert fields(out)["undone"] == topic
    assert list(await running.records()) == [kept]
    stdin(READER)
    code, out, err = await ran("undo", *words, "--url", running.url)
    assert (code, out) == (3, "")
    assert err == f"softstate: nothing was undone: there is no revocation {topic}.\n"


@pytest.mark.parametrize(("words", "left"), [(SUB, [TOPIC]), (("undo", *SUB), [])])
async def test_a_damaged_record_is_replaced_without_being_weakened(
    words: tuple[str, ...], left: list[str], running: Running, ran: Ran
) -> None:
    await running.put(TOPIC, {})
    running.node.store.disk.image.damage(TOPIC)  # type: ignore[attr-defined]
    code, _, err = await ran(*words, "--url", running.url)
    assert (code, err) == (0, "")
    assert list(await running.records()) == left
    if left:
        assert await in_force(running) == Revocation(TOPIC)


# Rights ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [SUB, ("token", "j1"), ("key", ISSUER, "k1"), ("list",), ("undo", *SUB)])
async def test_only_an_administrator_may(words: tuple[str, ...], ruled: Running, ran: Ran, tmp_path: Path) -> None:
    await ruled.put(TOPIC, {"reason": "before"})
    (tmp_path / "token").write_text(READER)
    code, out, err = await ran(*words, "--url", ruled.url, "--token-file", str(tmp_path / "token"))
    assert (code, out) == (7, "")
    assert "It takes `admin`" in err
    code, out, err = await ran(*words, "--url", ruled.url)
    assert (code, out) == (7, "")
    assert "--token-file FILE" in err
    assert (await in_force(ruled)).reason == "before"
    (tmp_path / "token").write_text(ADMIN)
    code, _, err = await ran(*words, "--url", ruled.url, "--token-file", str(tmp_path / "token"))
    assert (code, err) == (0, "")


# Faults --------------------------------------------------------------------------------------------------------------

EACH = [(SUB, "revoked"), (("undo", *SUB), "undone")]


@pytest.mark.parametrize(("words", "done"), EACH)
async def test_nobody_there_means_that_nothing_was_done(words: tuple[str, ...], done: str, ran: Ran) -> None:
    code, out, err = await ran(*words, "--url", f"ws://127.0.0.1:{free_port()}", "--timeout", "100ms")
    assert (code, out) == (5, "")
    assert err.startswith(f"softstate: nothing was {done}: no node answered within 0.1 s")
    assert err.endswith("Repeat the command.\n")


@pytest.mark.parametrize(("words", "done"), EACH)
async def test_a_store_that_is_down_means_that_nothing_was_done(
    words: tuple[str, ...], done: str, running: Running, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(*_: object) -> Any:
        raise Unavailable("the store is down")

    await running.put(TOPIC, {})
    monkeypatch.setattr(running.node.store, "read", down)
    code, out, err = await ran(*words, "--url", running.url, "--timeout", "300ms")
    assert (code, out) == (5, "")
    assert err.startswith(f"softstate: nothing was {done}: ")
    assert err.endswith("Repeat the command.\n")


@pytest.mark.parametrize(("words", "done"), EACH)
async def test_a_publish_that_is_refused_means_that_nothing_was_done(
    words: tuple[str, ...], done: str, running: Running, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> Any:
        raise Overloaded("too many publishes wait", retry_ms=60_000)

    await running.put(TOPIC, {})
    monkeypatch.setattr(running.node.store, "publish", full)
    code, out, err = await ran(*words, "--url", running.url, "--timeout", "1s")
    assert (code, out) == (5, "")
    assert err == f"softstate: nothing was {done}: too many publishes wait. Repeat the command.\n"


@pytest.mark.parametrize(("words", "done"), EACH)
async def test_a_publish_without_an_answer_may_be_repeated(
    words: tuple[str, ...], done: str, running: Running, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(*_: object) -> Any:
        await trio.sleep_forever()

    await running.put(TOPIC, {})
    monkeypatch.setattr(running.node.store, "publish", hangs)
    code, out, err = await ran(*words, "--url", running.url, "--timeout", "500ms")
    assert (code, out) == (6, "")
    assert f"it may be {done} or not. Repeat the command: that does no harm" in err


# --print -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [[*SUB, "--reason", "gone"], ["sub", "static", "ci"], ["token", "j1", "--for", "1h"], ["key", ISSUER, "k1"]],
)
async def test_what_is_printed_is_what_is_published(words: list[str], running: Running, ran: Ran) -> None:
    code, out, err = await ran(*words, "--print", "--url", f"ws://127.0.0.1:{free_port()}")
    assert (code, err) == (0, "")
    topic, value = out.rstrip("\n").split("\t")
    assert (await ran(*words, "--url", running.url))[0] == 0
    (record,) = (await running.records()).values()
    assert record.topic == topic
    assert record.cbor is not None
    assert decode_value(record.cbor) == json.loads(value)
