"""How a page attaches to a shared worker, in a browser made of a few objects: with a lock that it holds by then."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.node_js import WEB, evaluate

IMPORTS = 'import { connect } from "./client/connect.js"; import { Engine } from "./client/engine.js";'

RIG = """
const timers = [];
globalThis.setTimeout = (call) => timers.push(call);
globalThis.document = new EventTarget();
globalThis.addEventListener = () => {};
globalThis.location = new URL("http://a/");
const settle = async () => { for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve)); };

const held = new Map(); // one lock after another: each by whoever asked for it first
const take = (name, grant) => {
  let die;
  const dead = new Promise((resolve) => (die = resolve));
  const lock = (held.get(name) ?? Promise.resolve()).then(() => Promise.race([grant(), dead]));
  held.set(name, lock);
  return die;
};
const asked = []; // what the page asks for is under way until it is taken from here; what the worker asks for is not
let inWorker = false;
const request = (name, grant) => {
  if (inWorker) return void take(name, grant);
  return new Promise((_, refuse) => asked.push({ refuse, arrive: () => take(name, grant) }));
};
Object.defineProperty(globalThis, "navigator", { value: { locks: { request } } });

const said = [];
const engine = new Engine({ fetch: () => new Promise(() => {}) });
globalThis.SharedWorker = class {
  constructor() {
    const inside = { postMessage: (data) => setImmediate(() => this.port.onmessage({ data })) };
    const work = (data) => {
      inWorker = true;
      inside.onmessage({ data });
      inWorker = false;
    };
    const postMessage = (data) => {
      said.push(data.type);
      setImmediate(() => work(data));
    };
    this.port = { postMessage };
    engine.attach(inside);
  }
};
connect(undefined, { push: false, workerUrl: "http://a/softstate-worker.js" });
await settle();
"""


def _run(text: str) -> Any:
    return evaluate(WEB, IMPORTS, f"async () => {{ {RIG} {text} }}", None)


def test_a_worker_keeps_a_tab_whose_lock_was_slow_to_come_until_the_tab_is_gone() -> None:
    assert _run("""
      const before = [...said];
      const die = asked[0].arrive();
      await settle();
      const present = engine._tabs.size;
      die();
      await settle();
      return [before, said[0], present, engine._tabs.size];
    """) == [[], "open", 1, 0]


@pytest.mark.parametrize("happens", ["asked[0].refuse();", "timers.forEach((call) => call());"])
def test_a_tab_that_gets_no_lock_attaches_without(happens: str) -> None:
    assert _run(f"""
      {happens}
      await settle();
      return [said[0], engine._tabs.size];
    """) == ["open", 1]
