"""Small drills of every kind, with real processes, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from softstate.cli.processes.child import NodeProcess, free_port, softstate

SERVE = ("--ttl", "2s", "--timeout-ms", "1000", "--poll-every-ms", "500", "--recover-cap-ms", "1000")


async def drilled(*words: str) -> tuple[int, str, str]:
    done = await trio.run_process(softstate("drill", *words), capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("kind", ["server", "store", "link", "client"])
async def test_a_throw_away_installation_keeps_its_promises(kind: str) -> None:
    code, out, err = await drilled("--clients", "5", "--for", "1500ms", "--kill", kind, "--json")
    assert (code, err) == (0, ""), out
    report = json.loads(out)
    assert (report["ok"], report["broken"], report["kind"]) == (True, [], kind)
    assert (report["lost"], report["too_young"], report["behind"]) == (0, 0, 0)
    assert report["published"] == report["acknowledged"] > 10
    assert report["samples"] > 20
    assert report["touched"] == (3 if kind == "client" else 5)
    assert report["latency"]["p50_s"] > 0
    assert report["live"]["max_s"] >= report["down_s"] >= 0.5
    assert report["worst_age_s"] >= report["worst_staleness_s"]


async def test_an_own_installation_is_drilled_and_left_as_it_was(tmp_path: Path, nursery: trio.Nursery) -> None:
    node = NodeProcess(nursery, free_port(), ["--store", f"sqlite:{tmp_path / 'n.db'}", *SERVE], tmp_path / "n.log")
    await node.start()
    code, out, err = await drilled("--url", node.url, "--clients", "4", "--for", "1500ms", "--kill", "link")
    assert code == 0, out + err
    assert "every promise was kept" in out
    assert "the fault has ended" in err
    done = await trio.run_process(softstate("status", "--json", "--url", node.url), capture_stdout=True)
    status = json.loads(done.stdout)
    assert (status["topics"], status["sessions"]) == (0, 0)

    await trio.run_process(softstate("publish", "mine/a", "1", "--url", node.url), capture_stdout=True)
    code, _, err = await drilled("--url", node.url, "--prefix", "mine/", "--kill", "client")
    assert code == 2
    assert "--prefix mine/ holds topics already" in err
    done = await trio.run_process(softstate("get", "mine/a", "--url", node.url), capture_stdout=True)
    assert done.stdout == b"1\n"
    await node.kill()


async def topics_of(url: str) -> int:
    done = await trio.run_process(softstate("status", "--json", "--url", url), capture_stdout=True)
    return int(json.loads(done.stdout)["topics"])


async def test_a_step_that_fails_is_told_in_one_line_and_leaves_no_topics(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    node = NodeProcess(nursery, free_port(), ["--store", f"sqlite:{tmp_path / 'n.db'}", *SERVE], tmp_path / "n.log")
    await node.start()
    commands = ("--kill-command", "true", "--start-command", "exit 4")
    code, out, err = await drilled("--url", node.url, "--clients", "4", "--for", "1500ms", "--json", *commands)
    assert (code, out, err) == (5, "", "softstate: --start-command ended with exit code 4: exit 4.\n")
    assert await topics_of(node.url) == 0
    await node.kill()


async def test_a_promise_that_breaks_ends_in_exit_code_1(tmp_path: Path, nursery: trio.Nursery) -> None:
    """A node on `memory:` loses everything when it is killed, and the drill shows that."""
    port = free_port()
    pid = tmp_path / "pid"
    words = " ".join(softstate("serve", "--listen", f"127.0.0.1:{port}", "--store", "memory:", *SERVE))
    start = f"{words} >/dev/null 2>&1 & echo $! >{pid}"
    await trio.run_process(["/bin/sh", "-c", start])
    try:
        code, out, err = await drilled(
            "--url", f"ws://127.0.0.1:{port}", "--clients", "4", "--for", "1500ms", "--json",
            "--kill-command", f"kill -9 $(cat {pid})", "--start-command", start,
        )  # fmt: skip
    finally:
        await trio.run_process(["/bin/sh", "-c", f"kill -9 $(cat {pid})"])
    assert code == 1, out + err
    report = json.loads(out)
    assert report["resets"] > 0
    assert report["went_back"] == 0
    assert any(text.startswith("S9") for text in report["broken"])
