"""How a page attaches to a worker, in a browser made of a few objects: by locks, each hears of the other's end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.node_js import WEB, evaluate

IMPORTS = 'import { connect } from "./client/connect.js"; import { Engine } from "./client/engine.js";'

RIG = """
let timers = [];
globalThis.setTimeout = (call, ms) => timers.push({ call, ms });
globalThis.clearTimeout = () => {};
const workers = [];
const turns = async () => { for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve)); };
const settle = async () => {
  await turns();
  await Promise.all(workers.map((each) => each.began));
  await turns();
};
const fire = async (ms) => {
  const due = timers.filter((each) => each.ms <= ms);
  timers = timers.filter((each) => each.ms > ms);
  due.forEach(({ call }) => call());
  await settle();
};
globalThis.document = new EventTarget();
globalThis.addEventListener = globalThis.removeEventListener = () => {};
globalThis.location = new URL("file:///");

const state = { changes: [], published: [] };
const position = { epoch: "e", lineage: "l", revision: 9 };
const reply = (body) => ({ ok: true, status: 200, headers: new Headers(), text: async () => JSON.stringify(body) });
globalThis.fetch = async (url, { body }) => {
  if (url.endsWith("poll")) return reply({ id: 0, position, changes: state.changes, next_ms: 1000 });
  state.published.push(body);
  return new Promise(() => {});
};

// Locks: the requests in order. One is granted once none before it is for the same name, unless both are shared.
const locks = [];
const page = { late: [] }; // `late`: what was asked for and is still under way to the browser, where that is slow
let asks = page;
const slow = { page: false, worker: false };
const drop = (asked) => {
  if (locks.includes(asked)) locks.splice(locks.indexOf(asked), 1);
  grant();
};
const grant = () => {
  for (const [at, asked] of locks.entries()) {
    const before = locks.slice(0, at).some((one) => one.name === asked.name && !(one.shared && asked.shared));
    if (asked.held || before) continue;
    asked.held = true;
    void Promise.resolve(asked.call({})).then((value) => (drop(asked), asked.resolve(value)));
  }
};
const request = (name, options, call = options) => new Promise((resolve, reject) => {
  const asked = { name, shared: options.mode === "shared", call, resolve, owner: asks };
  const refuse = () => (reject(new DOMException("no", "AbortError")), drop(asked));
  options.signal?.addEventListener("abort", refuse);
  const arrive = () => (locks.push(asked), grant());
  if (slow[asks === page ? "page" : "worker"]) asks.late.push({ arrive, refuse });
  else arrive();
});
Object.defineProperty(globalThis, "navigator", { value: { locks: { request } } });

const end = (owner) => {
  owner.ended = true;
  for (const asked of locks.filter((each) => each.owner === owner)) drop(asked);
};
const as = async (owner, call) => {
  asks = owner;
  await call();
  asks = page;
};
class SharedGlobal { static [Symbol.hasInstance]() { return true; } }
const { attach } = Engine.prototype;
const start = () => {
  const worker = { late: [], said: [] };
  workers.push(worker);
  Engine.prototype.attach = function (...given) { // the last one made is the one that attaches
    (this._worker ??= workers.at(-1)).engine = this;
    attach.apply(this, given);
  };
  worker.began = as(worker, async () => {
    globalThis.SharedWorkerGlobalScope = SharedGlobal;
    await import(`${workerUrl}?${workers.length}`);
    delete globalThis.SharedWorkerGlobalScope;
    worker.onconnect = globalThis.onconnect;
  });
  return worker;
};
globalThis.SharedWorker = class {
  constructor() {
    const worker = workers.find((each) => !each.ended) ?? start();
    const inside = { postMessage: (data) => setImmediate(() => worker.ended || this.port.onmessage?.({ data })) };
    const work = (data) => worker.ended || as(worker, () => inside.onmessage({ data }));
    const postMessage = (data) => (worker.ended || worker.said.push(data.type), setImmediate(() => work(data)));
    this.port = { postMessage };
    this.again = () => worker.onconnect({ ports: [inside] });
    worker.shared = this;
    void worker.began.then(this.again);
  }
};
const at = new URL(workerUrl);
const join = () => connect("ws://a", { push: false, workerUrl: at });
const client = join();
const handle = client.subscribe("a/");
"""
"""A browser with one page: `workers` are those it started, `end` ends one, or the page, as a crash does."""


def _run(text: str, before: str = "") -> Any:
    worker = f'const workerUrl = "{(WEB / "client" / "worker.js").as_uri()}";'
    rig = RIG.replace("const client =", f"{before}\nconst client =")
    return evaluate(WEB, IMPORTS, f"async () => {{ {worker} {rig} await settle(); {text} }}", None)


def test_a_worker_keeps_a_tab_whose_lock_was_slow_to_come_until_the_tab_is_gone() -> None:
    assert _run(
        """
      const [{ said, engine }] = workers;
      const before = [...said];
      page.late[0].arrive();
      await settle();
      const present = engine._tabs.size;
      end(page);
      await settle();
      return [before, said[0], present, engine._tabs.size];
    """,
        "slow.page = true;",
    ) == [[], "open", 1, 0]


@pytest.mark.parametrize("happens", ["page.late[0].refuse();", "await fire(3000);"])
def test_a_tab_that_gets_no_lock_attaches_without(happens: str) -> None:
    assert _run(
        f"""
      {happens}
      await settle();
      return [workers[0].said[0], workers[0].engine._tabs.size];
    """,
        "slow.page = true;",
    ) == ["open", 1]


def test_a_tab_whose_worker_has_crashed_attaches_to_another_and_goes_on() -> None:
    assert _run(
        """
      const before = [[...handle.snapshot().keys()], client.mode];
      state.changes = [{ topic: "a/2", version: 9, value: "two" }];
      end(workers[0]);
      await settle();
      const between = [handle.age < Infinity, client.mode];
      await fire(500);
      const after = [[...handle.snapshot().keys()], client.mode];
      return [before, between, after, workers.length, workers[1].engine._tabs.size];
    """,
        'state.changes = [{ topic: "a/1", version: 8, value: "one" }];',
    ) == [[["a/1"], "polling"], [True, "connecting"], [["a/2"], "polling"], 2, 1]


def test_a_worker_names_its_lock_only_once_it_holds_it() -> None:
    assert _run(
        """
      const before = workers[0].said.length;
      workers[0].late[0].arrive();
      await settle();
      end(workers[0]);
      await settle();
      await fire(500);
      return [before, workers.length];
    """,
        "slow.worker = true;",
    ) == [0, 2]


@pytest.mark.parametrize("happens", ["workers[0].late[0].refuse();", "await fire(3000);"])
def test_a_worker_that_gets_no_lock_serves_without(happens: str) -> None:
    assert _run(
        f"""
      {happens}
      await settle();
      return [workers.length, workers[0].said[0], workers[0].engine._tabs.size];
    """,
        "slow.worker = true;",
    ) == [1, "open", 1]


@pytest.mark.parametrize(("happens", "left"), [("close()", 1), ("stop({ message: 'refused' }, true)", 4)])
def test_a_client_that_is_over_does_not_attach_again_when_its_worker_ends(happens: str, left: int) -> None:
    assert _run(f"""
      client.{happens};
      await settle();
      const before = locks.length;
      end(workers[0]);
      await settle();
      await fire(5000);
      return [before, workers.length];
    """) == [left, 1]


def test_a_tab_attaches_again_though_another_one_is_frozen() -> None:
    assert _run("""
      locks.find(({ shared }) => shared).call = () => new Promise(() => {});
      join();
      await settle();
      end(workers[0]);
      await settle();
      await fire(500);
      return workers.map(({ said }) => said.filter((each) => each === "open").length);
    """) == [2, 1]


def test_a_client_that_is_closed_while_it_finds_another_place_leaves_nothing_behind() -> None:
    assert _run("""
      end(workers[0]);
      await settle();
      client.close();
      await fire(500);
      const [, worker] = workers;
      end(worker);
      return [client.mode, worker.said, locks.length, workers.length];
    """) == ["closed", [], 0, 2]


def test_workers_that_end_one_after_another_are_followed_by_one_attach_at_a_time() -> None:
    assert _run("""
      const begun = [];
      for (let i = 0; i < 3; i++) {
        end(workers.at(-1));
        await settle();
        await fire(499);
        begun.push(workers.length);
        await fire(500);
        begun.push(workers.length);
      }
      return [begun, workers.map(({ said }) => said.filter((each) => each === "open").length)];
    """) == [[1, 2, 2, 3, 3, 4], [1, 1, 1, 1]]


def test_what_was_under_way_is_unknown_and_what_is_published_meanwhile_is_sent_once() -> None:
    assert _run("""
      const first = client.publish("a/1", "first").catch((error) => error.code);
      await settle();
      end(workers[0]);
      await settle();
      const value = ["second"];
      void client.publish("a/1", value);
      value[0] = "changed meanwhile";
      const refused = client.publish("a/1", () => {}).catch((error) => error.code);
      await fire(500);
      const said = workers[1].said.filter((each) => each === "publish").length;
      return [await first, await refused, said, state.published.map((each) => /first|second|changed/.exec(each)[0])];
    """) == ["outcome_unknown", "invalid", 1, ["first", "second"]]


def test_a_page_takes_over_where_no_other_worker_begins() -> None:
    assert _run("""
      delete globalThis.SharedWorker;
      end(workers[0]);
      await settle();
      await fire(500);
      while (client.mode !== "polling") await turns();
      return [client.mode, locks.length];
    """) == ["polling", 0]


def test_a_client_waits_for_a_worker_that_cannot_be_loaded_again_at_once() -> None:
    assert _run("""
      delete globalThis.SharedWorker;
      at.pathname = "/no/worker.js";
      end(workers[0]);
      await settle();
      await fire(500);
      while (!client.because) await turns();
      const before = [client.mode, client.because.includes("cannot be loaded")];
      at.href = workerUrl;
      await fire(5000);
      while (client.mode !== "polling") await turns();
      return before;
    """) == ["connecting", True]


def test_a_worker_that_was_started_again_behind_the_same_port_gets_the_tab_back() -> None:
    assert _run(
        """
      const [worker] = workers;
      worker.engine._leave([...worker.engine._tabs][0]);
      worker.shared.again();
      await settle();
      await fire(500);
      return [workers.length, worker.engine._tabs.size, worker.said.filter((each) => each === "open").length];
    """,
        "delete navigator.locks;",
    ) == [1, 1, 2]
