"""The client in Node.js against a real node: what it is handed, what it publishes, and what it says of errors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.kit.node_js import evaluate
from tests.kit.processes import Server
from tests.kit.static_tokens import CI, OTHER, static

USE = "use null, booleans, numbers, BigInt, text, Uint8Array, lists and plain objects"
CONNECT = 'import { connect } from "./softstate.js";'
SOCKETS = ["--experimental-websocket"]
"""Node.js 20 has WebSocket behind this; later versions take it for nothing."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("node"), store="memory:").start()
    yield server
    server.kill()


class Run(Protocol):
    """Calls a function in Node.js, with the client that nodes serve."""

    def __call__(self, text: str, argument: Any, *, sockets: bool = True) -> Any:
        """Return what it returns."""


@pytest.fixture
def run(package: Path) -> Run:
    def call(text: str, argument: Any, *, sockets: bool = True) -> Any:
        return evaluate(package, CONNECT, text, argument, flags=SOCKETS if sockets else [])

    return call


@pytest.mark.parametrize("sockets", [True, False])
def test_a_value_comes_as_it_was_published(node: Server, sockets: bool, run: Run) -> None:
    text = """async ([url, topic]) => {
      const client = connect(url);
      const value = { big: 2n ** 63n - 1n, bytes: new Uint8Array([0, 255]), half: 0.5, "": null, big_float: 1e300 };
      const version = await client.publish(topic, value);
      const orders = client.subscribe(topic);
      for await (const change of orders) {
        await orders.fresh();
        const { big, bytes, half, big_float } = change.value;
        const known = client.read(topic, { maxAge: 60 });
        client.close();
        const values = [String(big), [...bytes], half, big_float];
        return [change.topic, change.version === version, values, known.version === version, known.age >= 0];
      }
    }"""
    topic = f"values/{sockets}"
    found = run(text, [node.http, topic], sockets=sockets)
    assert found == [topic, True, [str(2**63 - 1), [0, 255], 0.5, 1e300], True, True]
    assert node.request("GET", f"/v1/topics/{topic}")[1]["big"] == 2**63 - 1


def test_errors_say_what_happened_and_what_to_do(node: Server, run: Run) -> None:
    text = """async ([url]) => {
      const client = connect(url);
      const told = [];
      const tell = async (call) => {
        try { await call(); told.push(null); } catch (error) { told.push([error.code, error.message]); }
      };
      await client.publish("errors/a", 1);
      await tell(() => client.publish("errors/a", 2, { expect: 1 }));
      await tell(() => client.publish("errors/a", new Map()));
      await tell(() => client.publish("errors/a", { deep: [NaN] }));
      await tell(() => client.publish("errors//a", 1));
      await tell(() => client.publish("errors/a", undefined));
      await tell(() => client.publish("errors/a", 1, { expect: -1 }));
      await tell(() => client.get("errors/a", { atLeast: 0.5 }));
      await tell(() => client.update("errors/a", () => 1, { timeoutMs: "1" }));
      await tell(() => client.subscribe());
      await tell(() => client.read("errors/a"));
      await tell(() => connect("ftp://a"));
      await tell(() => connect("ws://a/v1/ws"));
      await tell(() => connect(url, { maxAge: 0 }));
      await tell(() => connect(url, { workerUrl: "https://" }));
      client.close();
      await tell(() => client.subscribe("a"));
      return told;
    }"""
    conflict, *told = run(text, [node.http])
    assert conflict[0] == "conflict"
    assert "read it, then decide again" in conflict[1]
    assert told == [
        ["invalid", f"value cannot be published: {USE}"],
        ["invalid", "value.deep[0] is NaN: publish a finite number, or null"],
        ["invalid", "topic must not begin or end with '/', nor hold an empty, '.' or '..' segment: 'errors//a'"],
        ["invalid", "value is undefined: publish null, or delete the topic"],
        ["invalid", "expect must be a version, an integer of at least 0, not -1"],
        ["invalid", "atLeast must be a version, an integer of at least 0, not 0.5"],
        ["invalid", "timeoutMs must be a number of milliseconds, at least 0, not 1"],
        ["invalid", "subscribe needs at least one topic or prefix"],
        ["stale", "no subscription covers 'errors/a': subscribe to it"],
        ["invalid", "'ftp://a' must begin with ws://, wss://, http:// or https://"],
        ["invalid", "'ws://a/v1/ws' must be the base URL of the node: leave out the part from /v1 on"],
        ["invalid", "maxAge must be a number of seconds above 0, not 0"],
        ["invalid", "workerUrl must say where softstate-worker.js is, not 'https://'"],
        ["client_closed", "the client was closed; what it had sent may be applied"],
    ]  # fmt: skip


def test_a_client_goes_on_when_its_node_was_killed(tmp_path: Path, run: Run) -> None:
    server = Server(tmp_path).start()
    other = Server(tmp_path, store=server.store).start()
    text = """async ([urls, topic]) => {
      const client = connect(urls);
      const handle = client.subscribe(topic);
      await client.publish(topic, 1);
      const seen = [];
      for await (const change of handle) {
        seen.push(change.value);
        if (change.value === 2) break;
        const first = await fetch(`${urls[0]}/v1/whoami`).catch(() => null);
        if (first) process.kill(PID, "SIGKILL");
        await client.publish(topic, 2);
      }
      client.close();
      return seen;
    }"""
    assert server.process is not None
    try:
        found = run(text.replace("PID", str(server.process.pid)), [[server.http, other.http], "orders/1"])
    finally:
        server.kill()
        other.kill()
    assert found == [1, 2]


def test_a_place_without_a_node_is_told(tmp_path: Path, run: Run) -> None:
    text = """async ([url]) => {
      const client = connect(url, { push: false });
      const handle = client.subscribe("a");
      while (!client.because) await new Promise((resolve) => setTimeout(resolve, 10));
      client.close();
      return client.because;
    }"""
    server = Server(tmp_path, store="memory:").start()
    server.kill()
    assert "cannot be reached" in run(text, [server.http])


def test_a_client_without_its_other_file_says_where_that_has_to_be(package: Path, tmp_path: Path) -> None:
    for name in ("softstate.js", "package.json"):
        shutil.copy(package / name, tmp_path)
    text = """async () => {
      const client = connect("ws://127.0.0.1:1", { worker: "page" });
      const told = [];
      const note = (error) => told.push(error.code, error.message);
      await client.publish("a", 1).catch(note);
      try { for await (const _ of client.subscribe("a")); } catch (error) { note(error); }
      return [client.mode, client.because, ...told];
    }"""
    mode, because, *told = evaluate(tmp_path, CONNECT, text, None)
    assert (mode, told) == ("stopped", ["invalid", because] * 2)
    assert f"{(tmp_path / 'softstate-worker.js').as_uri()} cannot be loaded" in because
    assert "put softstate-worker.js beside softstate.js, or say where it is as workerUrl" in because


def test_a_client_without_push_has_its_polls_held(node: Server, run: Run) -> None:
    text = """async ([url, topic]) => {
      const waits = [];
      let held;
      const isHeld = new Promise((resolve) => (held = resolve));
      const recorded = (target, init) => {
        const wait = init.body && JSON.parse(init.body).wait_ms;
        waits.push(wait ?? null);
        if (wait) held();
        return fetch(target, init);
      };
      const client = connect(url, { push: false, fetch: recorded });
      const handle = client.subscribe(topic);
      await isHeld;
      const version = await client.publish(topic, 1);
      let seen;
      for await (const change of handle) { seen = change.version; break; }
      client.close();
      return [waits[0], seen === version];
    }"""
    assert run(text, [node.http, "held/1"], sockets=False) == [None, True], "wait_ms goes to nodes that told a level"


def test_one_topic_is_read_created_and_changed_without_a_subscription(node: Server, run: Run) -> None:
    text = """async ([url]) => {
      const client = connect(url), other = connect(url);
      const missing = await client.get("one/a");
      const first = await client.create("one/a", { count: 1 });
      const again = await client.create("one/a", {}).catch((error) => error.code);
      const got = await other.get("one/a", { atLeast: first });
      let calls = 0;
      const add = async ({ count } = { count: 0 }) => {
        if (++calls === 1) await other.publish("one/a", { count: 10 }); // faster than this one
        return { count: count + 1 };
      };
      const version = await client.update("one/a", add);
      const fromNothing = await client.update("one/b", (count = 5) => count + 1);
      await client.delete("one/a");
      const gone = await client.get("one/a");
      client.close();
      other.close();
      return [missing ?? null, again, got.value, got.version === first, calls, version > first, fromNothing > version,
              gone.deleted, gone.version > version];
    }"""
    assert run(text, [node.http]) == [None, "conflict", {"count": 1}, True, 2, True, True, True, True]
    assert node.request("GET", "/v1/topics/one/b")[1] == 6


def test_an_update_starts_from_what_is_followed_and_gives_up_in_time(node: Server, run: Run) -> None:
    text = """async ([url]) => {
      let gets = 0;
      const counting = (target, init) => { gets += /topics/.test(target); return fetch(target, init); };
      const client = connect(url, { fetch: counting }), other = connect(url);
      const handle = client.subscribe("start/");
      await handle.fresh();
      await client.update("start/a", () => [1]);
      for await (const changes of handle.batches()) if (changes.some(({ topic }) => topic === "start/a")) break;
      await client.update("start/a", (list) => [...list, 2]);
      const before = gets;
      const value = (await other.get("start/a")).value;
      const losing = async () => { await other.publish("start/a", []); return []; };
      const lost = await client.update("start/a", losing, { timeoutMs: 0 }).catch((error) => error);
      client.close();
      other.close();
      return [before, value, lost.code, lost.message];
    }"""
    text_of = "others changed 'start/a' each of 1 times: nothing was applied; try again"
    assert run(text, [node.http]) == [0, [1, 2], "unavailable", text_of]


def test_batches_have_all_that_is_pending(node: Server, run: Run) -> None:
    text = """async ([url]) => {
      const client = connect(url);
      const handle = client.subscribe("batch/");
      await handle.fresh();
      const versions = await Promise.all(["a", "b", "a"].map((name) => client.publish(`batch/${name}`, 1)));
      while ((handle.get("batch/a")?.version ?? 0) < versions[2]) {
        await new Promise((resolve) => handle.addEventListener("change", resolve, { once: true }));
      }
      const batches = [];
      for await (const changes of handle.batches()) {
        batches.push(changes.map(({ topic, version }) => [topic, version === versions[topic === "batch/a" ? 2 : 1]]));
        handle.close();
      }
      client.close();
      return batches;
    }"""
    assert run(text, [node.http]) == [[["batch/a", True], ["batch/b", True]]]


def test_a_read_asks_the_next_node_when_one_is_silent_and_says_so_when_all_are(tmp_path: Path, run: Run) -> None:
    server = Server(tmp_path).start()
    gone = Server(tmp_path, store=server.store).start()
    gone.kill()
    server.put("read/a", "one")
    text = """async ([gone, url]) => {
      const both = connect([gone, url]), none = connect(gone);
      const { value } = await both.get("read/a");
      const error = await none.get("read/a", { timeoutMs: 300 }).catch((error) => error);
      both.close();
      none.close();
      return [value, error.code, error.message];
    }"""
    value, code, message = run(text, [gone.http, server.http])
    server.kill()
    assert (value, code) == ("one", "unavailable")
    assert message.startswith("no node answered within 300 ms; the last one: ")
    assert "cannot be reached" in message


def test_a_token_function_that_fails_is_asked_again_and_calls_wait_for_it(tmp_path: Path, run: Run) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(static("ci", CI, read=["/"], write=["/"]))
    server = Server(tmp_path, auth=str(policy)).start()
    text = """async ([url, bad, good]) => {
      Math.random = () => 0.01; // short pauses
      const asked = [];
      const token = async ({ rejected, attempt }) => {
        asked.push([rejected, attempt]);
        if (asked.length === 1) throw new TypeError("the secret");
        if (asked.length === 2) return 7;
        return asked.length === 3 ? bad : good;
      };
      const client = connect(url, { token, push: false });
      client.subscribe("token/");
      const reads = client.get("token/a");
      while (asked.length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
      while (!client.lastError) await new Promise((resolve) => setTimeout(resolve, 10));
      const told = client.lastError.message;
      const read = await reads;
      const version = await client.publish("token/a", 1);
      client.close();
      return [asked, told, read ?? null, version > 0];
    }"""
    asked, told, *rest = run(text, [server.http, OTHER, CI], sockets=False)
    server.kill()
    assert [rejected for rejected, _ in asked] == [None, None, None, "unknown_key"]
    assert [attempt for _, attempt in asked] == [0, 1, 2, 3]
    none = "the token function gave no token: that is text of 1 to 8192 printable ASCII characters"
    assert told in ("the token function failed: TypeError", none), "the text of what it throws may hold a secret"
    assert rest == [None, True]
