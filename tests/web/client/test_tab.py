"""A tab of the browser client, talked to as by an engine: ages by its own clock, and a tab that was forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.node_js import WEB, evaluate

IMPORTS = 'import { Client } from "./client/client.js";'

RIG = """
const at = { now: 100 };
const client = new Client({}, null, 5, { now: () => at.now });
const said = [];
const port = { postMessage: (message) => said.push(message) };
const handle = client.subscribe("a");
client.attach(port, "lock");
let seq = 0;
const update = (anchor, clock, age, events = [], position = null) => {
  const handles = [{ id: 1, events, age, unreadable: [] }];
  const state = { mode: "live", position, error: null, because: "" };
  port.onmessage({ data: { type: "update", seq: ++seq, anchor, clock, ...state, handles } });
};
const close = (one, other) => Math.abs(one - other) < 1e-9;
"""


def _run(text: str) -> Any:
    return evaluate(WEB, IMPORTS, f"async () => {{ {RIG} {text} }}", None)


def test_an_age_counts_from_what_the_tab_itself_has_sent() -> None:
    assert _run("""
      const first = handle.age === Infinity;
      at.now = 111; // it was attached at 100, and the engine's clock read 7 after that
      update([0, 7], 17, 2);
      return [first, close(handle.age, 111 - (100 + 0.98 * 10 - 2))];
    """) == [True, True]


def test_an_update_that_waited_in_a_frozen_tab_is_as_old_as_it_is() -> None:
    assert _run("""
      update([0, 7], 7, 0.5);
      at.now = 108;
      update([1, 7.1], 8, 0.5, [{ type: "change", topic: "a", version: 1, value: 1, deleted: false }]);
      return [close(handle.age, 108 - (100 + 0.98 * 0.9 - 0.5)), handle.get("a").value, client.mode];
    """) == [True, 1, "live"]


def test_an_age_of_the_future_counts_for_nothing() -> None:
    assert _run("""
      update([0, 7], 7, 0.5);
      const before = handle.age;
      update([0, 7], 700, 0);
      return [before === handle.age, before];
    """) == [True, 0.5]


def test_a_reset_or_a_listing_takes_the_age_back() -> None:
    assert _run("""
      update([0, 7], 7, 0.5);
      update([1, 7], 7, Infinity);
      const relisted = handle.age;
      update([2, 7], 7, 0.5);
      update([3, 7], 7, null, [{ type: "reset", position: null }]);
      return [relisted === Infinity, handle.age === Infinity, handle.resetCount];
    """) == [True, True, 1]


def test_a_tab_that_was_forgotten_attaches_again() -> None:
    assert _run("""
      update([0, 7], 7, 0.5);
      const published = client.publish("a", 1).catch((error) => error.code);
      said.length = 0;
      for (let i = 0; i < 2; i++) port.onmessage({ data: { type: "gone" } }); // one for each message it had sent
      return [said.map((each) => each.type), said[0].lock, said[1].names, await published];
    """) == [["open", "subscribe"], "", ["a"], "outcome_unknown"]


def test_a_tab_that_is_closed_when_it_hears_that_it_was_forgotten_stays_so() -> None:
    assert _run("""
      update([0, 7], 7, 0.5);
      client.addEventListener("mode", () => client.close());
      said.length = 0;
      port.onmessage({ data: { type: "gone" } });
      return [said, client.mode];
    """) == [[], "closed"]


def test_an_age_goes_on_where_the_engine_has_ended_and_counts_from_the_next_one_s_clock() -> None:
    assert _run("""
      update([0, 7], 7, 0.5);
      at.now = 104;
      client.lose();
      const lost = [handle.age, client.mode, port.onmessage];
      const next = { postMessage: (message) => said.push(message) };
      at.now = 110;
      client.attach(next, "");
      const before = handle.age;
      at.now = 112;
      const state = { mode: "live", position: null, error: null, because: "" };
      const handles = [{ id: 1, events: [], age: 0, unreadable: [] }];
      next.onmessage({ data: { type: "update", seq: 1, anchor: [0, 90], clock: 91, ...state, handles } });
      return [lost, before, close(handle.age, 112 - (110 + 0.98 * 1))];
    """) == [[4.5, "connecting", None], 10.5, True]


def test_a_topic_that_was_deleted_while_the_tab_was_forgotten_is_gone_once_there_is_an_age() -> None:
    assert _run("""
      const set = (topic, value, version) => ({ type: "change", topic, version, value, deleted: false });
      const told = [];
      handle.addEventListener("change", ({ detail }) => told.push([detail.topic, detail.deleted]));
      update([0, 7], 7, 0.5, [set("a", 1, 1), set("b", 1, 2)]);
      port.onmessage({ data: { type: "gone" } });
      told.length = 0;
      update([0, 7], 7, null, [set("a", 2, 3)]);
      const before = [...handle.snapshot().keys()];
      update([2, 7], 7, 0.5);
      update([3, 7], 7, 0.5);
      return [before, [...handle.snapshot().keys()], told];
    """) == [["a", "b"], ["a"], [["a", False], ["b", True]]]


@pytest.mark.parametrize(
    ("lineage", "told", "events"),
    [("l", [], ""), ("m", ["reset", "b"], ""), ("m", ["reset", "b"], '{ type: "reset", position: null }')],
)
def test_a_reset_while_the_tab_was_forgotten_is_told_once_and_first(lineage: str, told: list[str], events: str) -> None:
    position = f'{{ epoch: "e", lineage: "{lineage}", revision: 4 }}'
    assert _run(f"""
      const set = (topic, version) => ({{ type: "change", topic, version, value: 1, deleted: false }});
      const told = [];
      const tell = ({{ type, detail }}) => told.push(detail.topic ?? type);
      for (const type of ["reset", "change"]) handle.addEventListener(type, tell);
      update([0, 7], 7, 0.5, [set("a", 3)], {{ epoch: "e", lineage: "l", revision: 3 }});
      for (let i = 0; i < 2; i++) {{
        port.onmessage({{ data: {{ type: "gone" }} }});
        update([0, 7], 7, null);
      }}
      told.length = 0;
      const before = handle.resetCount;
      update([0, 7], 7, null, [{events}], {position});
      const age = handle.age;
      if (told.length) update([0, 7], 7, 0.5, [set("b", 4)], {position});
      update([0, 7], 7, 0.5, [], {{ epoch: "e", lineage: "later", revision: 1 }});
      return [before, told.filter((each) => each !== "a"), handle.resetCount, age === Infinity];
    """) == [0, told, len(told) // 2, bool(told)]


def test_read_is_stale_when_nothing_proves_that_it_is_young() -> None:
    assert _run("""
      update([0, 7], 7, 0.5, [{ type: "change", topic: "a", version: 3, value: 1, deleted: false }]);
      const young = client.read("a");
      at.now += 10;
      let stale;
      try { client.read("a"); } catch (error) { stale = [error.code, error.age, error.message]; }
      return [young.value, young.version, young.age, ...stale];
    """) == [1, 3, 0.5, "stale", 10.5, "the state of 'a' may be 10.5 s old, and maxAge is 5 s"]


def test_read_is_stale_before_the_first_answer_even_of_any_age() -> None:
    assert _run("""
      try { return client.read("a", { maxAge: Infinity }); } catch (error) { return [error.code, error.message]; }
    """) == ["stale", "nothing proves how old the state of 'a' is: wait for the subscription's fresh()"]


def test_iterating_throws_what_is_denied_once_and_goes_on_with_the_rest() -> None:
    assert _run("""
      const both = client.subscribe("b", "c");
      const told = [];
      const deny = { type: "denied", names: ["b"], below: [], silent: false };
      const set = { type: "change", topic: "c", version: 1, value: 1, deleted: false };
      both.feed([set, deny], 1, []);
      for (let i = 0; i < 2; i++) {
        try {
          for await (const change of both) { told.push(change.topic); break; }
        } catch (error) {
          told.push(error.code);
        }
      }
      return [told, both.names, both.denied];
    """) == [["denied", "c"], ["c"], ["b"]]
