"""Hints at names that match nothing: on stderr, without another exit code or another line of output."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from softstate.cli.processes.child import Lines, NodeProcess, child, free_port, softstate
from softstate.cli.terminal.hints import no_patterns


@pytest.fixture
async def node(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[NodeProcess]:
    node = NodeProcess(nursery, free_port(), ["--store", f"sqlite:{tmp_path / 'node.db'}"], tmp_path / "node.log")
    await node.start()
    lines = b"".join(json.dumps({"topic": f"orders/{n}", "value": n}).encode() + b"\n" for n in range(12))
    odd = b'{"topic":"odd/*","value":1}\n{"topic":"both","value":1}\n{"topic":"both/x","value":1}\n'
    assert (await ran("publish", "--ndjson", "-", "--url", node.url, stdin=lines + odd))[0] == 0
    yield node
    await node.kill()


async def ran(*words: str, stdin: bytes = b"") -> tuple[int, str, str]:
    done = await trio.run_process(softstate(*words), stdin=stdin, capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def test_get_hints_at_a_prefix_and_at_patterns(node: NodeProcess) -> None:
    for words in (["get", "orders"], ["get", "orders", "--json"]):
        code, out, err = await ran(*words, "--url", node.url)
        assert (code, out) == (3, "")
        hint, error = err.splitlines()
        assert hint == "softstate: hint: no such topic, but orders/ has 12: softstate list orders/ prints them"
        assert error == "softstate: there is no topic orders."
    code, _, err = await ran("get", "orders/*", "--url", node.url)
    assert code == 3
    assert "hint: names are no patterns: orders/ stands for all topics below it" in err
    code, _, err = await ran("get", "nothing", "--url", node.url)
    assert (code, err) == (3, "softstate: there is no topic nothing.\n")


async def test_names_that_exist_get_no_hint(node: NodeProcess) -> None:
    for name in ("odd/*", "both", "orders/1"):
        code, _, err = await ran("get", name, "--url", node.url)
        assert (code, err) == (0, "")
        code, _, err = await ran("watch", name, "--count", "1", "--url", node.url)
        assert (code, err) == (0, "")


async def test_deleting_nothing_is_told(node: NodeProcess) -> None:
    code, out, err = await ran("delete", "nothing", "--url", node.url)
    assert (code, out) == (0, "0\n")
    assert err == "softstate: hint: nothing was deleted: there is no topic nothing\n"
    code, out, err = await ran("delete", "both", "--url", node.url)
    assert (code, err) == (0, "")
    assert await ran("delete", "both", "--url", node.url) == (0, out, "")


async def test_list_hints_at_patterns(node: NodeProcess) -> None:
    code, out, err = await ran("list", "orders/*/", "--url", node.url)
    assert (code, out) == (0, "")
    assert err == "softstate: hint: names are no patterns: orders/ stands for all topics below it\n"
    code, _, err = await ran("list", "orders/*", "--url", node.url)
    assert code == 2
    assert "prefix must be '/' or a topic followed by '/'" in err
    assert "names are no patterns: orders/ stands" in err
    assert err.count("\n") == 1
    assert (await ran("list", "nothing/", "--url", node.url)) == (0, "", "")


HINTED = [
    (["orders"], "no such topic, but orders/ has 12"),
    (["orders/1", "orders"], "no such topic, but orders/ has 12"),
    (["orders/*"], "names are no patterns: orders/ stands"),
    (["orders/#"], "names are no patterns: orders/ stands"),
    (["orders/>"], "names are no patterns: orders/ stands"),
    (["*"], "names are no patterns: / stands for all topics there are"),
    (["x/*/y/"], "names are no patterns: x/ stands"),
]


@pytest.mark.parametrize("options", [[], ["--poll", "--json"]])
async def test_watch_hints_and_goes_on(node: NodeProcess, options: list[str]) -> None:
    for names, words in HINTED:
        command = softstate("watch", *names, *options, "--url", node.url)
        async with child(command, subprocess.PIPE) as watch:
            assert watch.stderr is not None
            assert words in await anext(Lines(watch.stderr))
            assert watch.poll() is None


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("a/*", "a/"), ("a/b/*/c", "a/b/"), ("*", "/"), ("a*", "/"), ("a/b#/c", "a/"), (">", "/"), ("a/*/", "a/")],
)
def test_the_prefix_that_was_meant(name: str, prefix: str) -> None:
    text = no_patterns(name)
    assert text is not None
    assert f": {prefix} stands for all topics" in text


@pytest.mark.parametrize("name", ["a", "a/", "/", "a/b", "a+b", "a?"])
def test_ordinary_names_are_no_patterns(name: str) -> None:
    assert no_patterns(name) is None
