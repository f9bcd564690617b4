"""The command line from end to end, with real processes: what is printed, exit codes, signals, broken pipes."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

import softstate as softstate_package
from softstate.cli.exit_codes import REFUSED, Failure
from softstate.cli.processes.child import Lines, NodeProcess, child, free_port, softstate


@pytest.fixture
async def node(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[NodeProcess]:
    node = NodeProcess(nursery, free_port(), ["--store", f"sqlite:{tmp_path / 'node.db'}"], tmp_path / "node.log")
    await node.start()
    yield node
    await node.kill()


async def ran(*words: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run `softstate` with these words; return its exit code and what it printed on stdout and stderr."""
    done = await trio.run_process(softstate(*words), stdin=stdin, capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def test_publish_get_list_and_their_exit_codes(node: NodeProcess) -> None:
    url = ("--url", node.url)
    assert "durable, 0 topics" in node.announcement
    code, out, _ = await ran("publish", "orders/42", '{"state":"paid"}', *url)
    assert code == 0
    version = int(out)
    assert await ran("publish", "orders/43", "-", "--json", *url, stdin=b"-5") == (
        0,
        json.dumps({"topic": "orders/43", "version": version + 1}, separators=(",", ":")) + "\n",
        "",
    )
    assert await ran("get", "orders/42", "--at-least", str(version + 1), *url) == (0, '{"state":"paid"}\n', "")
    _, out, _ = await ran("list", "orders/", "--json", *url)
    assert [json.loads(line) for line in out.splitlines()] == [
        {"topic": "orders/42", "version": version, "value": {"state": "paid"}},
        {"topic": "orders/43", "version": version + 1, "value": -5},
    ]
    code, out, err = await ran("publish", "orders/42", "1", "--expect", "0", *url)
    assert (code, out) == (4, "")
    assert str(version) in err
    assert (await ran("delete", "orders/42", "--expect", str(version), *url))[0] == 0
    assert (await ran("get", "orders/42", *url))[0] == 3
    assert json.loads((await ran("status", "--json", *url))[1])["topics"] == 1


async def test_a_deletion_is_conditional_and_repeats_its_answer(node: NodeProcess) -> None:
    url = ("--url", node.url)
    version = int((await ran("publish", "a", "1", *url))[1])
    assert (await ran("delete", "a", "--expect", str(version + 1), *url))[0] == 4
    code, out, _ = await ran("delete", "a", "--expect", str(version), "--key", "k", "--json", *url)
    assert (code, json.loads(out)) == (0, {"topic": "a", "version": version + 1})
    await ran("publish", "a", "2", *url)
    assert (await ran("delete", "a", "--expect", str(version), "--key", "k", "--json", *url))[1] == out
    assert (await ran("get", "a", *url))[1] == "2\n"


async def test_versions_are_told_for_a_report(node: NodeProcess) -> None:
    _, out, _ = await ran("version", "--json")
    told = json.loads(out)
    assert told["softstate"] == softstate_package.__version__
    assert {"python", "system", "sqlite", "trio", "msgspec"} <= told.keys()
    lines = (await ran("version"))[1].splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [[name, text] for name, text in told.items()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_a_shell_gets_a_script_that_it_takes(shell: str, tmp_path: Path) -> None:
    _, out, _ = await ran("completion", shell)
    assert "connections-max" in out
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(out)
    await trio.run_process([shell, "-n", str(script)])


async def test_a_key_makes_a_second_publish_repeat_the_first(node: NodeProcess) -> None:
    first = await ran("publish", "a", "1", "--key", "k", "--url", node.url)
    assert await ran("publish", "a", "1", "--key", "k", "--url", node.url) == first
    assert (await ran("publish", "a", "2", "--key", "k", "--url", node.url))[0] == 2


async def test_a_store_full_of_keys_takes_publishes_without_one(tmp_path: Path, nursery: trio.Nursery) -> None:
    node = NodeProcess(nursery, free_port(), ["--store", "memory:", "--keys-max", "1"], tmp_path / "node.log")
    await node.start()
    url = ("--url", node.url)
    assert (await ran("publish", "a", "1", "--key", "k", *url))[0] == 0
    assert (await ran("publish", "a", "2", "--key", "l", "--timeout", "1s", *url))[0] == REFUSED
    for value in ("3", "4"):
        assert (await ran("publish", "a", value, *url))[0] == 0
    assert (await ran("delete", "a", *url))[0] == 0
    await node.kill()


@pytest.mark.parametrize("check", [[], ["--check"]])
async def test_a_limit_of_files_without_room_for_connections_is_refused(check: list[str]) -> None:
    words = softstate("serve", *check, "--store", "memory:", "--listen", "127.0.0.1:0")
    limited = ["sh", "-c", 'ulimit -n 20; exec "$@"', "sh", *words]
    done = await trio.run_process(limited, stdin=b"", capture_stdout=True, capture_stderr=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"softstate: this process may open 20 files, and a node needs 80 at least: raise")


async def test_nobody_there_is_told_with_a_hint() -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    code, _, err = await ran("publish", "a", "1", "--url", url, "--timeout", "100ms")
    assert code == 5
    assert "softstate serve" in err
    assert (await ran("get", "a", "--url", url, "--timeout", "100ms"))[0] == 5


@pytest.mark.parametrize(
    ("key", "what_next"), [([], r"--key [0-9a-f]{32} cannot apply it twice"), (["--key", "k"], "--key k cannot")]
)
async def test_a_silent_node_leaves_the_outcome_unknown_and_says_what_to_do(key: list[str], what_next: str) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with listeners[0]:
        code, _, err = await ran("publish", "a", "1", *key, "--url", f"ws://127.0.0.1:{port}", "--timeout", "1s")
    assert code == 6
    assert re.search(what_next, err)


async def test_watch_follows_changes_and_ends_quietly_when_its_reader_leaves(node: NodeProcess) -> None:
    assert (await ran("publish", "a/b", "1", "--url", node.url))[0] == 0
    async with child(softstate("watch", "a/", "--json", "--url", node.url), subprocess.PIPE) as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        output = Lines(watch.stdout)
        while (event := json.loads(await anext(output)))["event"] != "change":
            assert event["event"] == "mode"
        assert (event["topic"], event["value"]) == ("a/b", 1)
        await watch.stdout.aclose()
        assert (await ran("publish", "a/b", "2", "--url", node.url))[0] == 0
        assert await watch.wait() == 0
        assert await watch.stderr.receive_some() == b""


@pytest.mark.parametrize("options", [[], ["--poll"]])
async def test_watch_leaves_after_count_changes(node: NodeProcess, options: list[str]) -> None:
    for number in range(3):
        assert (await ran("publish", f"a/{number}", "1", "--url", node.url))[0] == 0
    code, out, _ = await ran("watch", "a/", "--json", "--count", "3", *options, "--url", node.url)
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [event["topic"] for event in events if event["event"] == "change"] == ["a/0", "a/1", "a/2"]
    if options:
        assert {event["mode"] for event in events} <= {"connecting", "polling"}


async def test_ctrl_c_ends_watch_with_130_and_silence(node: NodeProcess) -> None:
    async with child(softstate("watch", "--json", "--url", node.url), subprocess.PIPE) as watch:
        assert watch.stdout is not None
        assert watch.stderr is not None
        output = Lines(watch.stdout)
        await anext(output)
        watch.send_signal(signal.SIGINT)
        assert await watch.wait() == 130
        assert await watch.stderr.receive_some() == b""


async def test_a_file_is_published_in_order_and_a_run_is_applied_once(node: NodeProcess, tmp_path: Path) -> None:
    path = tmp_path / "changes.ndjson.gz"
    changes = [{"topic": f"t/{n % 7}", "value": n} for n in range(500)] + [{"topic": "t/0", "deleted": True}]
    path.write_bytes(gzip.compress(b"".join(json.dumps(change).encode() + b"\n" for change in changes)))
    for repeated in (0, 501):
        code, out, _ = await ran("publish", "--ndjson", str(path), "--run", "r", "--json", "--url", node.url)
        counts = json.loads(out)
        assert code == 0
        assert (counts["lines"], counts["published"], counts["deleted"]) == (501, 500, 1)
        assert counts["repeated"] == repeated
    _, out, _ = await ran("list", "t/", "--json", "--url", node.url)
    assert {change["topic"]: change["value"] for change in map(json.loads, out.splitlines())} == {
        f"t/{n % 7}": n for n in range(490, 500) if n % 7
    }


async def test_a_bad_line_stops_the_file_and_the_command_told_resumes_it(node: NodeProcess, tmp_path: Path) -> None:
    good, bad = b'{"topic":"a","value":1}\n{"topic":"b","value":1}\n', b'{"topic":"c"}\n'
    code, out, err = await ran("publish", "--ndjson", "-", "--json", "--url", node.url, stdin=good + bad + good)
    assert code == 2
    assert json.loads(out)["lines"] == 2
    assert "line 3: needs either" in err
    assert "--from-line 3" in err
    path = tmp_path / "f"
    path.write_bytes(good + b'{"topic":"c","value":1}\n')
    code, out, _ = await ran("publish", "--ndjson", str(path), "--from-line", "3", "--json", "--url", node.url)
    assert (code, json.loads(out)["lines"]) == (0, 1)


async def test_a_value_that_the_node_refuses_is_named_by_its_line(node: NodeProcess) -> None:
    big = json.dumps({"topic": "b", "value": "x" * 70_000}).encode()
    text = b'{"topic":"a","value":1}\n' + big + b'\n{"topic":"c","value":1}\n'
    code, out, err = await ran("publish", "--ndjson", "-", "--json", "--url", node.url, stdin=text)
    assert code == 2
    assert json.loads(out)["lines"] in (1, 2)  # the third is sent, or not, by the time the second is refused
    assert "line 2: " in err
    assert "--from-line 2 " in err


async def test_ctrl_c_tells_where_a_file_resumes(node: NodeProcess) -> None:
    command = softstate("publish", "--ndjson", "-", "--json", "--url", node.url)
    pipe = subprocess.PIPE
    publish = await trio.lowlevel.open_process(command, stdin=pipe, stdout=pipe, stderr=pipe)
    assert publish.stdin is not None
    assert publish.stdout is not None
    assert publish.stderr is not None
    async with publish.stdin, publish.stdout, publish.stderr:
        await publish.stdin.send_all(b'{"topic":"a","value":1}\n')
        await ran("watch", "a", "--count", "1", "--url", node.url)
        publish.send_signal(signal.SIGINT)
        assert await publish.wait() == 130
        out, err = await anext(Lines(publish.stdout)), await anext(Lines(publish.stderr))
    line = json.loads(out)["lines"] + 1
    assert f"interrupted. Every line before {line} is published; continue with:" in err
    assert f"--from-line {line}" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_the_node(number: signal.Signals, tmp_path: Path) -> None:
    command = softstate("serve", "--listen", "127.0.0.1:0", "--store", f"sqlite:{tmp_path / 'node.db'}")
    async with child(command, subprocess.PIPE) as process:
        assert process.stdout is not None
        assert "listens on http://127.0.0.1:" in await anext(Lines(process.stdout))
        process.send_signal(number)
        assert await process.wait() == 0


async def test_a_port_in_use_and_a_foreign_file_are_told_in_one_line(node: NodeProcess, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    foreign.write_bytes(b"this is no database, and nothing of softstate's" * 100)
    before = foreign.read_bytes()
    for words in (["--listen", f"127.0.0.1:{node.port}"], ["--listen", "127.0.0.1:0", "--store", f"sqlite:{foreign}"]):
        code, out, err = await ran("serve", *words)
        assert (code, out) == (2, "")
        assert err.startswith("softstate: ")
        assert err.count("\n") == 1
    assert foreign.read_bytes() == before


async def test_a_node_that_does_not_start_is_told_with_its_reason(nursery: trio.Nursery, tmp_path: Path) -> None:
    node = NodeProcess(nursery, free_port(), ["--ttl", "1"], tmp_path / "node.log")
    with pytest.raises(Failure, match="exit code 2 before it listened: softstate: --ttl must be a duration"):
        await node.start()
