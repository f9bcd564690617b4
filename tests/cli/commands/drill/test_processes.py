"""Small drills of every kind, with real processes, as a user runs them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import trio

from softstate.cli.commands import drill
from softstate.cli.commands.drill import publisher
from softstate.cli.commands.drill.plan import TOPICS
from softstate.cli.exit_codes import leaf
from softstate.cli.processes.child import Lines, NodeProcess, child, free_port, softstate
from tests.kit.engines import missing
from tests.kit.processes import WAIT_S
from tests.kit.static_tokens import CI, ROOT, static

SERVE = ("--ttl", "2s", "--timeout-ms", "1000", "--poll-every-ms", "500", "--recover-cap-ms", "1000")


async def drilled(*words: str) -> tuple[int, str, str]:
    done = await trio.run_process(softstate("drill", *words), capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    ("kind", "runtime"),
    [
        ("server", "asyncio"),
        ("store", "trio"),
        ("link", "sync"),
        ("client", "trio"),
        ("rolling", "trio"),
        ("rolling --nginx", "trio"),
    ],
)
async def test_a_throw_away_installation_keeps_its_promises(kind: str, runtime: str) -> None:
    if "nginx" in kind and shutil.which("nginx") is None:
        missing("nginx is not installed: .dev/engines installs it")
    kind, *more = kind.split()
    words = ("--clients", "5", "--for", "1500ms", "--kill", kind, *more, "--client", runtime, "--json")
    code, out, err = await drilled(*words)
    assert (code, err) == (0, ""), out
    report = json.loads(out)
    assert (report["ok"], report["broken"], report["kind"], report["client"]) == (True, [], kind, runtime)
    assert (report["lost"], report["too_young"], report["behind"]) == (0, 0, 0)
    assert report["published"] == report["acknowledged"] > 10
    assert report["samples"] > 20
    assert report["touched"] == (3 if kind == "client" else 5)
    assert report["latency"]["p50_s"] > 0
    assert report["live"]["max_s"] >= report["down_s"] >= 0.5
    assert report["worst_age_s"] >= report["worst_staleness_s"]


@pytest.mark.parametrize(("kind", "runtime"), [("server", "trio"), ("link", "asyncio")])
async def test_nodes_with_tls_keep_their_promises_too(kind: str, runtime: str) -> None:
    words = ("--tls", "--clients", "4", "--for", "1500ms", "--kill", kind, "--client", runtime)
    code, out, err = await drilled(*words)
    assert code == 0, out + err
    assert "on one SQLite file, with TLS" in err
    assert f"4 clients of {runtime} are live" in err
    assert "every promise was kept" in out


@pytest.mark.parametrize(("words", "program"), [("--tls", "openssl"), ("--kill rolling --nginx", "nginx")])
async def test_a_drill_says_which_program_it_needs(tmp_path: Path, words: str, program: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        code, out, err = await drilled(*words.split(), "--clients", "4", "--for", "1500ms", "--json")
    assert (code, out) == (2, "")
    assert f"needs the program {program}" in err
    assert err.count("\n") == 1


async def test_an_own_installation_is_drilled_and_left_as_it_was(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(CI)
    mine = ["drill/", "mine/"]
    (tmp_path / "auth.toml").write_text(static("ci", CI, read=mine, write=mine) + static("root", ROOT, admin=True))
    options = ["--store", f"sqlite:{tmp_path / 'n.db'}", "--auth", str(tmp_path / "auth.toml"), *SERVE]
    node = NodeProcess(nursery, free_port(), options, tmp_path / "n.log")
    await node.start()
    with_token = ("--token-file", str(tmp_path / "token"))
    words = ("--url", node.url, "--clients", "4", "--for", "1500ms", "--kill", "link")
    code, out, err = await drilled(*words, *with_token)
    assert code == 0, out + err
    monkeypatch.setenv("SOFTSTATE_TOKEN", ROOT)
    assert "every promise was kept" in out
    assert "the fault has ended" in err
    done = await trio.run_process(softstate("status", "--json", "--url", node.url), capture_stdout=True)
    status = json.loads(done.stdout)
    assert (status["topics"], status["sessions"]) == (0, 0)

    await trio.run_process(softstate("publish", "mine/a", "1", "--url", node.url), capture_stdout=True)
    code, _, err = await drilled("--url", node.url, "--prefix", "mine/", "--kill", "client", *with_token)
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


async def test_ctrl_c_in_a_drill_of_an_own_installation_leaves_no_topics(tmp_path: Path, nursery: trio.Nursery) -> None:
    node = NodeProcess(nursery, free_port(), ["--store", f"sqlite:{tmp_path / 'n.db'}", *SERVE], tmp_path / "n.log")
    await node.start()
    words = softstate("drill", "--url", node.url, "--clients", "4", "--for", "1h", "--kill", "link")
    async with child(words, subprocess.PIPE) as process:
        assert process.stderr is not None
        said = Lines(process.stderr)
        async for line in said:
            if line.startswith("• measuring"):
                break
        assert await topics_of(node.url) == TOPICS
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        assert [line async for line in said] == []
        await process.stderr.aclose()
    # A node tells a count of its store again for a moment.
    with trio.fail_after(WAIT_S):
        while await topics_of(node.url):
            pass
    await node.kill()


async def test_topics_that_cannot_be_deleted_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(publisher, "CLEAN_S_MAX", 0.2)
    port = free_port()
    async with child(softstate("serve", "--listen", f"127.0.0.1:{port}", "--store", "memory:", *SERVE)) as node:
        assert node.stdout is not None
        await anext(Lines(node.stdout))
        with pytest.raises(ExceptionGroup) as raised:
            await drill.command(
                url=(f"ws://127.0.0.1:{port}",), clients=2, for_=1.0, json=True, prefix="d/",
                kill_command=f"kill -9 {node.pid}", start_command="exit 4",
            )  # fmt: skip
    assert "--start-command ended with exit code 4" in str(leaf(raised.value))
    names = ", ".join(f"d/{number}/state" for number in range(TOPICS))
    said = f"softstate: these topics may be left behind, delete them by hand: {names}.\n"
    assert capsys.readouterr() == ("", said)


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
