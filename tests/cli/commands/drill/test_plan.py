"""Plans that a drill refuses by name, and the division of its clients over workers."""

from __future__ import annotations

import dataclasses

import pytest

from softstate.cli import run
from softstate.cli.commands.drill.plan import (
    CLIENTS_MAX,
    FOR_S_MAX,
    FOR_S_MIN,
    SYNC_CLIENTS_MAX,
    TOPICS,
    Kind,
    Plan,
    fresh_prefix,
)
from softstate.errors import ConfigError

PLAN = Plan(kind="server", clients=10, for_s=9.0, prefix="drill/x/")
OWN = dataclasses.replace(PLAN, urls=("ws://127.0.0.1:8700",), kill_command="a", start_command="b")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--clients", "0"], "--clients must be 1 to"),
        (["--clients", "1", "--kill", "client"], "--clients must be 2 to"),
        (["--clients", str(CLIENTS_MAX + 1)], "--clients"),
        (["--client", "gevent"], "--client"),
        (["--client", "sync", "--clients", str(SYNC_CLIENTS_MAX + 1)], "at most 200 with --client sync"),
        (["--for", "0s"], "--for must be"),
        (["--for", "61m"], "--for must be"),
        (["--for", "soon"], "--for must be a duration"),
        (["--kill", "disk"], "--kill"),
        (["--url", "nowhere"], "must begin with ws://"),
        (["--prefix", "drill"], "--prefix must be"),
        (["--prefix", "/"], "--prefix must not be '/'"),
        (["--url", "ws://h:1"], "--kill server with --url needs --kill-command and --start-command"),
        (["--url", "ws://h:1", "--kill", "store", "--kill-command", "x"], "--url needs --start-command"),
        (["--start-command", "x"], "--start-command is for --kill server, store or rolling with --url"),
        (["--url", "ws://h:1", "--kill", "link", "--kill-command", "x"], "--kill-command is for"),
        (["--url", "wss://h:1", "--kill", "link", "--tls"], "--tls is for throw-away nodes"),
        (["--kill", "rolling", "--url", "ws://h:1"], "--kill rolling with --url needs --kill-command: only"),
        (["--kill", "rolling", "--start-command", "x"], "--start-command is not for --kill rolling"),
        (["--kill", "rolling", "--kill-command", "x"], "--kill-command is for"),
        (["--kill", "rolling", "--nginx", "--tls"], "--nginx is for --kill rolling of throw-away nodes"),
        (["--nginx"], "--nginx is for --kill rolling of throw-away nodes"),
        (["--token-file", "none"], "--token-file is for an installation of your own"),
        (["--token-file", "none", "--url", "ws://h:1", "--kill", "link"], "cannot read --token-file none"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(words: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drill", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert named in err


def test_the_limits_themselves_are_allowed() -> None:
    for change in ({"clients": 1}, {"clients": CLIENTS_MAX}, {"for_s": FOR_S_MIN}, {"for_s": FOR_S_MAX}):
        dataclasses.replace(PLAN, **change).check()
    OWN.check()
    dataclasses.replace(PLAN, clients=SYNC_CLIENTS_MAX, runtime="sync").check()
    with pytest.raises(ConfigError):
        dataclasses.replace(PLAN, clients=CLIENTS_MAX + 1).check()


@pytest.mark.parametrize("clients", [1, 2, 5, 100, 503])
def test_every_client_is_in_one_crew_and_follows_two_topics(clients: int) -> None:
    plan = dataclasses.replace(PLAN, clients=clients)
    shares = plan.shares()
    assert [client for share in shares for client in share] == list(range(clients))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for client in range(clients):
        first, second = plan.follows(client)
        assert first != second
        assert {first, second} <= set(range(TOPICS))


@pytest.mark.parametrize("kind", ["server", "store", "link", "client"])
def test_the_phases_add_up(kind: Kind) -> None:
    plan = dataclasses.replace(PLAN, kind=kind)
    assert plan.healthy_s + plan.down_s + plan.after_s == plan.for_s
    assert plan.down_s == (2.0 if kind == "server" else 3.0)


def test_a_run_has_a_prefix_of_its_own() -> None:
    assert fresh_prefix() != fresh_prefix()
    assert fresh_prefix(["mine/"]) == "mine/"
    assert dataclasses.replace(PLAN, prefix=fresh_prefix()).check().names[0].startswith("drill/")
