"""The engine that serves tabs: one update under way for each, tabs that are gone or silent, tokens of other tabs."""

from __future__ import annotations

from typing import Any

from tests.kit.node_js import WEB, evaluate

IMPORTS = 'import { Engine } from "./client/engine.js"; import { Clock } from "./client/clock.js";'

RIG = """
const at = { now: 1000 };
const timers = new Map();
globalThis.setTimeout = (call, ms) => { const timer = {}; timers.set(timer, [at.now + ms, call]); return timer; };
globalThis.clearTimeout = (timer) => timers.delete(timer);
Date.now = () => at.now;
const later = (ms) => {
  at.now += ms;
  for (const [timer, [due, call]] of [...timers]) if (due <= at.now && timers.delete(timer)) call();
};
const settle = () => new Promise((resolve) => setImmediate(resolve));

const state = { revision: 1, changes: [], asked: 0 };
const reply = (body) => ({ ok: true, status: 200, headers: new Headers(), text: async () => JSON.stringify(body) });
const fetch = async (url) => {
  state.asked += 1;
  if (state.fails) throw new TypeError("no network");
  const position = { epoch: "e", lineage: "l", revision: state.revision };
  return reply({ id: 0, position, changes: state.changes.splice(0), next_ms: 1000 });
};
const engine = new Engine({ fetch, clock: new Clock(() => at.now, () => at.now) });
const options = { urls: ["ws://a"], push: false };

class Port {
  constructor({ quick = false, provider = false, extra = {} } = {}) {
    this.got = [];
    this.quick = quick;
    engine.attach(this);
    this.say({ type: "open", options: { ...options, ...extra }, lock: "", provider });
  }
  postMessage(message) {
    this.got.push(message);
    if (this.quick && message.type === "update") queueMicrotask(() => this.ack());
  }
  say(message) { this.onmessage({ data: message }); }
  updates() { return this.got.filter((each) => each.type === "update"); }
  values() {
    const handles = this.updates().flatMap((each) => each.handles);
    return handles.flatMap(({ events }) => events.map((event) => event.value)).filter((value) => value !== undefined);
  }
  ack() { this.say({ type: "ack", seq: this.updates().at(-1).seq }); }
}
const set = async (value) => {
  state.changes.push({ topic: "a", version: ++state.revision, value });
  for (let i = 0; i < 4; i++) { later(1000); await settle(); await settle(); }
};
"""


def _run(text: str) -> Any:
    return evaluate(WEB, IMPORTS, f"async () => {{ {RIG} {text} }}", None)


def test_a_tab_has_one_update_under_way_and_then_gets_the_newest_alone() -> None:
    assert _run("""
      const quick = new Port({ quick: true }), frozen = new Port();
      for (const port of [quick, frozen]) port.say({ type: "subscribe", id: 1, names: ["a"], narrow: false });
      for (const value of [1, 2, 3]) await set(value);
      const before = [quick.values(), frozen.updates().length, frozen.values()];
      frozen.ack();
      return [before, frozen.values()];
    """) == [[[1, 2, 3], 1, []], [3]]


def test_an_update_tells_when_the_last_acknowledgement_came_and_how_old_all_is() -> None:
    assert _run("""
      const port = new Port({ quick: true });
      port.say({ type: "subscribe", id: 1, names: ["a"], narrow: false });
      const first = port.updates()[0];
      await set(1);
      const last = port.updates().at(-1);
      const { age } = last.handles[0];
      const anchored = last.anchor[0] === last.seq - 1 && last.clock >= last.anchor[1];
      return [first.seq, first.handles, first.anchor, anchored, age >= 0 && age < 10];
    """) == [1, [], [0, 1], True, True]


def test_a_tab_that_takes_nothing_for_too_long_is_told_when_it_speaks_again() -> None:
    assert _run("""
      const port = new Port(), other = new Port({ quick: true });
      for (const each of [port, other]) each.say({ type: "subscribe", id: 1, names: ["a"], narrow: false });
      const until = at.now + 599_000;
      while (at.now < until) { later(1000); await settle(); }
      port.ack();
      const kept = port.got.some((each) => each.type === "gone");
      for (let i = 0; i < 605; i++) { later(1000); await settle(); }
      port.say({ type: "ack", seq: 1 });
      return [kept, port.got.at(-1).type];
    """) == [False, "gone"]


def test_a_tab_that_is_away_is_sent_nothing_until_it_is_back_and_then_the_newest() -> None:
    assert _run("""
      const port = new Port({ quick: true }), other = new Port({ quick: true });
      for (const each of [port, other]) each.say({ type: "subscribe", id: 1, names: ["a"], narrow: false });
      await set(1);
      port.say({ type: "away" });
      const before = port.got.length;
      for (const value of [2, 3]) await set(value);
      const held = port.got.length - before;
      port.say({ type: "jumped" });
      return [held, port.values(), other.values()];
    """) == [0, [1, 3], [1, 2, 3]]


def test_a_tab_that_is_away_for_too_long_attaches_again() -> None:
    assert _run("""
      const port = new Port({ quick: true }), other = new Port({ quick: true });
      for (const each of [port, other]) each.say({ type: "subscribe", id: 1, names: ["a"], narrow: false });
      const away = async (ms) => {
        port.say({ type: "away" });
        for (const until = at.now + ms; at.now < until; ) { later(1000); await settle(); }
        port.say({ type: "jumped" });
        return port.got.some((each) => each.type === "gone");
      };
      return [await away(599_000), await away(602_000)];
    """) == [False, True]


def test_another_tab_is_asked_for_a_token_that_does_not_come() -> None:
    assert _run("""
      const giving = { provider: true, extra: { provider: true } };
      const first = new Port(giving), second = new Port(giving);
      const asked = (port) => port.got.filter((each) => each.type === "token").length;
      const counts = [[asked(first), asked(second)]];
      later(4999);
      counts.push([asked(first), asked(second)]);
      later(1);
      counts.push([asked(first), asked(second)]);
      const { number } = second.got.find((each) => each.type === "token");
      const before = state.asked;
      second.say({ type: "subscribe", id: 1, names: ["a"], narrow: false });
      second.say({ type: "token", number, token: "t" });
      await settle();
      return [counts, before, state.asked];
    """) == [[[1, 0], [1, 0], [1, 1]], 0, 1]


def test_names_are_wanted_until_the_last_tab_that_follows_them_is_gone() -> None:
    assert _run("""
      const one = new Port({ quick: true }), two = new Port({ quick: true });
      for (const each of [one, two]) each.say({ type: "subscribe", id: 7, names: ["a"], narrow: false });
      one.say({ type: "close" });
      await set(1);
      const values = two.values();
      two.say({ type: "close" });
      const before = state.asked;
      for (let i = 0; i < 60; i++) { later(1000); await settle(); }
      return [values, state.asked - before];
    """) == [[1], 0]


def test_a_client_that_is_offline_tries_at_once_when_there_is_a_network() -> None:
    found = evaluate(
        WEB,
        'import { Machine } from "./machine/machine.js"; import { Random } from "./machine/backoff.js";',
        """() => {
          const machine = new Machine({ urls: ["ws://a"] }, new Random(() => 0.9, () => "ab".repeat(16)));
          let now = 1;
          const fail = ({ conn, request }) => {
            const told = { reason: "", unsent: true };
            if (conn) machine.handle({ event: "connect_failed", conn, ...told }, now);
            if (request) machine.handle({ event: "request_failed", request, ...told }, now);
          };
          machine.handle({ event: "wanted", names: ["a"] }, now);
          machine.handle({ event: "opened" }, now).forEach(fail);
          while (machine.mode !== "offline") {
            now = Math.max(now, machine.deadline());
            machine.handle({ event: "ticked" }, now).forEach(fail);
          }
          const waits = machine.deadline() > now + 0.1;
          machine.hurry();
          const tried = machine.handle({ event: "ticked" }, now + 0.1).map((action) => action.do);
          return [waits, tried.some((each) => each === "connect" || each === "send_poll")];
        }""",
        None,
    )
    assert found == [True, True]


def test_a_read_ends_with_its_tab() -> None:
    assert _run("""
      state.fails = true;
      const port = new Port();
      port.say({ type: "get", ticket: 1, topic: "a", atLeast: null, timeoutMs: Infinity });
      const pass = async () => { later(6000); for (let i = 0; i < 4; i++) await settle(); };
      for (let i = 0; i < 5; i++) await pass();
      const tries = state.asked;
      port.say({ type: "close" });
      for (let i = 0; i < 5; i++) await pass();
      return [tries > 1, state.asked - tries];
    """) == [True, 0]
