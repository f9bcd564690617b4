"""The parts of the browser client that wait for nothing: its clock, and what a subscription has not taken yet."""

from __future__ import annotations

from typing import Any

from tests.kit.node_js import WEB, evaluate

CLOCK = 'import { Clock } from "./client/clock.js";'
INBOX = 'import { Inbox } from "./client/inbox.js";'

TAKEN = """const taken = (inbox) => {
  const found = [];
  while (inbox.size) found.push(inbox.take());
  return found.map((each) => each.topic ? `${each.topic} ${each.deleted ? "gone" : each.value}` : each.type);
};
const set = (topic, value) => ({ type: "change", topic, version: 1, value, deleted: false });
const gone = (topic) => ({ type: "change", topic, version: 1, value: null, deleted: true });
const reset = { type: "reset", position: null };"""


def test_a_clock_goes_on_while_the_host_sleeps() -> None:
    text = """() => {
      const at = { steady: 1000, wall: 5000 };
      const clock = new Clock(() => at.steady, () => at.wall);
      const looks = [];
      const look = (steady, wall) => {
        at.steady += steady;
        at.wall += wall;
        looks.push([clock.now(), clock.jumped()]);
      };
      look(0, 0);
      look(1000, 1000);
      look(1000, 61000); // it slept for a minute
      look(1000, 1000);
      look(1000, -5000); // somebody set the clock back
      look(1000, 1400); // two clocks of somewhat different rates
      look(0, 90000); // and forth
      return looks;
    }"""
    assert evaluate(WEB, CLOCK, text, None) == [
        [1, False], [2, False], [63, True], [64, False], [65, False], [66, False], [156.4, True],
    ]  # fmt: skip


def _inbox(text: str) -> Any:
    return evaluate(WEB, INBOX + TAKEN, f"() => {{ {text} }}", None)


def test_a_newer_change_takes_the_place_of_the_older() -> None:
    assert _inbox("""
      const inbox = new Inbox(["p/"]);
      for (const each of [set("p/a", 1), set("p/b", 2), set("p/a", 3)]) inbox.tell(each);
      return taken(inbox);
    """) == ["p/a 3", "p/b 2"]


def test_a_reset_drops_values_and_keeps_deletions_ahead_of_it() -> None:
    assert _inbox("""
      const inbox = new Inbox(["p/"]);
      const told = [set("p/a", 1), gone("p/b"), reset, reset, set("p/c", 2), reset, set("p/a", 4)];
      for (const each of told) inbox.tell(each);
      return taken(inbox);
    """) == ["p/b gone", "reset", "p/a 4"]


def test_a_deletion_is_never_ahead_of_a_reset_that_came_before_it() -> None:
    assert _inbox("""
      const inbox = new Inbox(["p/"]);
      for (const each of [gone("p/a"), reset, gone("p/a"), reset, set("p/a", 4)]) inbox.tell(each);
      return taken(inbox);
    """) == ["reset", "reset", "p/a 4"]


def test_denied_names_take_their_changes_with_them() -> None:
    assert _inbox("""
      const inbox = new Inbox(["p/", "p/a", "q"]);
      for (const each of [set("p/a", 1), set("p/b", 2), set("q", 3)]) inbox.tell(each);
      inbox.tell({ type: "denied", names: ["p/", "other"], below: [], silent: false });
      return [taken(inbox), [...inbox.names]];
    """) == [["p/a 1", "q 3", "denied"], ["p/a", "q"]]


def test_names_below_a_denied_prefix_take_its_place_if_that_was_asked_for() -> None:
    assert _inbox("""
      const inbox = new Inbox(["p/"], true);
      inbox.tell(set("p/a", 1));
      inbox.tell(set("p/b", 1));
      inbox.tell({ type: "denied", names: ["p/"], below: ["p/a"], silent: true });
      return [taken(inbox), [...inbox.names]];
    """) == [["p/a 1", "denied"], ["p/a"]]


def test_modes_and_refusals_are_kept_once() -> None:
    assert _inbox("""
      const inbox = new Inbox(["p/"]);
      for (const mode of ["live", "polling"]) inbox.tell({ type: "mode", mode });
      for (const url of ["a", "b", "a"]) inbox.tell({ type: "refused", url, error: null });
      inbox.tell({ type: "unreadable", topics: ["p/a", "q"] });
      inbox.tell({ type: "unreadable", topics: ["p/b"] });
      const found = [];
      while (inbox.size) found.push(inbox.take());
      return found.map((each) => each.mode ?? each.url ?? each.topics);
    """) == ["polling", "a", "b", ["p/a", "p/b"]]
