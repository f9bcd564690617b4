"""Output that cannot be written, input that cannot be read: a sentence and an exit code, for every command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio

from softstate.cli.exit_codes import INTERRUPTED, OUTPUT
from softstate.cli.processes.child import Lines, NodeProcess, child, free_port, softstate

FULL = "/dev/full"
"""A device that is always full; Linux has it."""


@pytest.fixture
async def node(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[NodeProcess]:
    node = NodeProcess(nursery, free_port(), ["--store", f"sqlite:{tmp_path / 'node.db'}"], tmp_path / "node.log")
    await node.start()
    yield node
    await node.kill()


async def ended(words: Sequence[str], redirection: str, stdin: bytes = b"") -> tuple[int, str]:
    """Run a command under a shell that redirects; return its exit code and what it wrote on stderr."""
    script = ["sh", "-c", f'exec "$@" {redirection}', "sh", *softstate(*words)]
    done = await trio.run_process(script, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, done.stderr.decode()


async def is_told(words: Sequence[str], stdin: bytes = b"") -> None:
    code, err = await ended(words, f"> {FULL}", stdin=stdin)
    assert (words, code) == (words, OUTPUT)
    *warnings, last = err.splitlines()
    assert last.startswith("softstate: cannot write to standard output: No space left on device.")
    assert not [line for line in warnings if "[warning" not in line]


async def test_a_full_disk_is_told_by_publish_which_has_published(node: NodeProcess) -> None:
    url = ("--url", node.url)
    await is_told(["publish", "a", "1", *url])
    await is_told(["publish", "--ndjson", "-", *url], b'{"topic":"n","value":1}\n')
    done = await trio.run_process(softstate("list", "--json", *url), capture_stdout=True)
    assert {json.loads(line)["topic"] for line in done.stdout.splitlines()} == {"a", "n"}


async def test_a_full_disk_is_told_by_commands_that_read(node: NodeProcess) -> None:
    # Longer than what is buffered: a short output fails at the end only.
    assert (await ended(["publish", "a", '"' + "x" * 50_000 + '"', "--url", node.url], ""))[0] == 0
    for words in (["get", "a"], ["list"], ["watch", "--count", "1"], ["status"]):
        await is_told([*words, "--url", node.url])
        await is_told([*words, "--json", "--url", node.url])


async def test_a_full_disk_is_told_by_commands_without_a_node(tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'node.db'}"
    await is_told(["store", "create", store])
    await is_told(["store", "info", "--store", store])
    await is_told(["store", "backup", str(tmp_path / "backup.db"), "--store", store])
    await is_told(["serve", "--listen", "127.0.0.1:0", "--store", store])
    await is_told(["serve", "--check", "--listen", "127.0.0.1:0", "--store", store])


@pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["--version"]])
async def test_a_full_disk_is_told_by_help(words: list[str]) -> None:
    await is_told(words)


async def test_a_failure_with_a_full_stderr_keeps_its_exit_code(node: NodeProcess) -> None:
    url = ("--url", node.url)
    assert await ended(["get", "nothing", *url], f"2> {FULL}") == (3, "")
    assert await ended(["get", "nothing", *url], f"> {FULL} 2> {FULL}") == (3, "")
    assert await ended(["get", "--nonsense"], f"2> {FULL}") == (2, "")


async def test_closed_streams_are_no_traceback(node: NodeProcess) -> None:
    url = ("--url", node.url)
    assert (await ended(["publish", "a", "1", *url], ">&-")) == (0, "")
    assert (await ended(["list", *url], ">&- 2>&- <&-")) == (0, "")
    assert (await ended(["watch", "--count", "1", *url], ">&-")) == (0, "")
    assert (await ended(["get", "nothing", *url], ">&- 2>&-")) == (3, "")


CLOSED = ("<&-", "<&- >&- 2>&-")


async def keeps_its_exit_code(words: Sequence[str], closed: str, code: int) -> None:
    ended_with, err = await ended(words, closed)
    assert (words, ended_with) == (words, code), err
    assert err.count("\n") == (code != 0 and "2>" not in closed), err


@pytest.mark.parametrize("closed", CLOSED)
async def test_publish_finds_nothing_in_a_closed_input(closed: str, node: NodeProcess) -> None:
    await keeps_its_exit_code(["publish", "a", "-", "--url", node.url], closed, 2)
    await keeps_its_exit_code(["publish", "--ndjson", "-", "--url", node.url], closed, 0)


@pytest.mark.parametrize("closed", CLOSED)
async def test_a_command_without_a_node_and_some_streams_does_what_it_does(closed: str, tmp_path: Path) -> None:
    store, backup = f"sqlite:{tmp_path / 'other.db'}", str(tmp_path / "b.db")
    await keeps_its_exit_code(["store", "create", store], closed, 0)
    await keeps_its_exit_code(["store", "backup", backup, "--store", store], closed, 0)
    await keeps_its_exit_code(["store", "restore", backup, "--store", store], closed, 0)
    await keeps_its_exit_code(["get"], closed, 2)


async def test_input_that_cannot_be_read_is_told(node: NodeProcess, tmp_path: Path) -> None:
    only_written = f"0> {tmp_path / 'out'}"
    code, err = await ended(["publish", "a", "-", "--url", node.url], only_written)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("softstate: cannot read standard input: Bad file descriptor")
    code, err = await ended(["publish", "--ndjson", "-", "--run", "r", "--url", node.url], only_written)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("softstate: line 1: the file cannot be read from here on (Bad file descriptor)")
    assert "continue with: softstate publish --ndjson - --from-line 1 --run r" in err


async def test_input_without_an_end_is_refused_by_its_length() -> None:
    code, err = await ended(["publish", "a", "-"], "< /dev/zero")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("softstate: standard input is longer than 64 MiB")


async def test_ctrl_c_while_input_is_waited_for_ends_a_publish() -> None:
    """It was a fatal error of Python's, since a thread that waited for input kept the lock of `sys.stdin`."""
    async with child(softstate("publish", "a", "-"), subprocess.PIPE, subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        await process.stdin.send_all(b" " * 200_000)  # more than a pipe holds: some of it has been read by now
        process.send_signal(signal.SIGINT)
        assert await process.wait() == INTERRUPTED
        assert await process.stderr.receive_some() == b""


@pytest.mark.parametrize("begun", [b"", b"1"])
async def test_input_that_does_not_block_is_not_taken_for_its_beginning(begun: bytes) -> None:
    """It would be published as null, or as the number that it begins with."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        os.write(writing, begun)
        done = await trio.run_process(softstate("publish", "a", "-"), stdin=reading, capture_stderr=True, check=False)
    finally:
        os.close(reading)
        os.close(writing)
    assert done.returncode == 2
    assert done.stderr.startswith(b"softstate: cannot read standard input: Resource temporarily unavailable.")


async def test_a_reader_that_leaves_is_no_failure(node: NodeProcess) -> None:
    url = ("--url", node.url)
    for number in range(3):
        value = '"' + "x" * 60_000 + '"'
        assert (await ended(["publish", f"a/{number}", value, *url], ""))[0] == 0
    for words in (["list", *url], ["list", "--json", *url], ["get", "a/0", *url], ["status", *url]):
        async with child(softstate(*words), subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            await process.stdout.aclose()
            assert (words, await process.wait()) == (words, 0)
            assert await process.stderr.receive_some() == b""


@pytest.mark.parametrize("words", [["--help"], ["serve", "--help"], ["store", "--help"], ["--version"]])
async def test_a_reader_that_leaves_help_is_no_failure(words: list[str]) -> None:
    async with child(softstate(*words), subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        await process.stdout.aclose()
        assert await process.wait() == 0
        assert await process.stderr.receive_some() == b""


async def test_a_reader_that_leaves_a_watch_ends_it_though_nothing_changes(node: NodeProcess) -> None:
    async with child(softstate("watch", "quiet/", "--json", "--url", node.url), subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        async for line in Lines(process.stdout):
            if json.loads(line).get("mode") == "live":
                break
        await process.stdout.aclose()
        with trio.fail_after(20):
            assert await process.wait() == 0
        assert await process.stderr.receive_some() == b""


async def test_a_reader_that_leaves_a_demo_ends_it(tmp_path: Path) -> None:
    command = ["env", f"TMPDIR={tmp_path}", *softstate("demo")]
    async with child(command, subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        async for line in Lines(process.stdout):
            if line.startswith("• A publisher counts up."):
                break
        await process.stdout.aclose()
        assert await process.wait() == 0
        assert await process.stderr.receive_some() == b""
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 - of a directory of its own


async def test_a_node_goes_on_when_its_log_is_full(tmp_path: Path) -> None:
    command = softstate("serve", "--listen", "127.0.0.1:0", "--store", f"sqlite:{tmp_path / 'node.db'}")
    async with child(["sh", "-c", f'exec "$@" 2> {FULL}', "sh", *command]) as process:
        assert process.stdout is not None
        line = await anext(Lines(process.stdout))
        assert "listens on http://127.0.0.1:" in line
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
