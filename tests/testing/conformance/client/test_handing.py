"""The traces of level 2: they are what the client hands out now, and each of its rules is seen by one of them."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from softstate.client.api import inbox as inbox_module, latest as latest_module
from softstate.testing.conformance.client import handles
from softstate.testing.conformance.client.form import Json
from softstate.testing.conformance.client.handles import HandingDiffers, replay_handles
from softstate.testing.conformance.client.scenarios.handing import generate_handing
from softstate.testing.conformance.client.trace import HANDING, Trace, load_all

TRACES = load_all(HANDING)

OF_INBOXES = {
    "newest goes to the end": ("        if self._resets_pending:\n", "        if True:\n"),
    "changes jump over resets": ("        if self._resets_pending:\n", "        if False:\n"),
    "the older stays": ("self._pending[change.topic] = change", "self._pending.setdefault(change.topic, change)"),
    "the newest is taken first": ("popitem(last=False)", "popitem(last=True)"),
    "values survive a reset": ("if not event.deleted:", "if False:"),
    "deletions are dropped by a reset": ("if not event.deleted:", "if True:"),
    "resets pile up": ("self._remove(bare)\n                bare = key", "bare = None"),
    "a deletion does not part resets": ("                bare = None\n", ""),
    "resets are not counted down": ("self._resets_pending -= isinstance(event, Reset)", "pass"),
    "damage survives a reset": ("elif isinstance(event, TopicsUnreadable):", "elif False:"),
    "the mode keeps its place": ("        self._pending.pop(_MODE, None)\n", ""),
    "refusals of all nodes are one": ("(refusal.url,)", '("",)'),
    "damage of others is told": ("if not self.names.keys().isdisjoint((topic, *reaching(topic)))", "if True"),
    "damage is told by the last only": ("isinstance(pending, TopicsUnreadable)", "False"),
    "damage that is known is not told": ("        inbox.unreadable(unreadable(inbox.names))\n", ""),
    "what is pending of denied names stays": ("            del self._pending[topic]\n", "            pass\n"),
    "a denial is raised once for good": ("            if self.names:\n", "            if True:\n"),
    "a denial is raised each time": ("            if self.names:\n", "            if False:\n"),
    "denied names stay": ("            del self.names[name]\n", "            pass\n"),
    "nothing is narrowed": (
        "        if self.narrow:\n            self.names.update",
        "        if False:\n            self.names.update",
    ),
    "narrowing is an error": ("if self.narrow and all(narrow.get(name) for name in refused)", "if False"),
    "what is narrowed reaches nobody": (
        "            if inbox.narrow:\n                for name",
        "            if False:\n                for name",
    ),
    "all handles narrow": ("for inbox in self._all if inbox.narrow for", "for inbox in self._all for"),
    "topics are told to be narrowed": ('if name.endswith("/"))', ")"),
    "the end comes before what is pending": (
        "        if not self._pending:\n            if self.closed",
        "        if self._end or not self._pending:\n            if self.closed",
    ),
    "the last end counts": ("self._end = self._end or error", "self._end = error"),
    "a closed handle keeps what is pending": ("        self._pending.clear()\n", ""),
    "a closed handle waits": ("        self.closed = True\n", ""),
    "closing twice unsubscribes twice": ("        if inbox.closed:\n            return []\n", ""),
    "every want is told": (
        "new = [name for name in inbox.names if name not in self._by_name]",
        "new = list(inbox.names)",
    ),
    "the first to leave unsubscribes": ("            if not holders:\n", "            if True:\n"),
    "deletions are known": ("if change.version > 0 and not change.deleted", "if change.version > 0"),
    "values of another history are known": ("if change.version > 0 and not change.deleted", "if not change.deleted"),
    "prefixes are asked for before they narrow": ("return [*told, Wanted(new)] if", "return [Wanted(new), *told] if"),
    "only the topic itself is looked for": ("self._holders(reaching(topic))", "{}"),
    "only prefixes are looked for": ("if topic in self._by_name:", "if False:"),
    "one parent is another": ("found = above.get(parent)", "found = next(iter(above.values()), None)"),
}

OF_LATEST = {
    "every value is sent": ("if before is None or before.settled:", "if True:"),
    "the first to wait is sent": ("        found.submit = submit\n", ""),
    "nothing is sent behind": ("                self.flush(topic)", "                pass"),
    "a receipt drops for all": ("        if waiting.holders:\n", "        if False:\n"),
    "what is dropped is sent": ("            del self._waiting[waiting.topic]\n", "            pass\n"),
    "what is under way is not dropped": ("        return waiting.ticket\n", "        return None\n"),
    "what waits never ends": ("left = [waiting.outcome for waiting in self._waiting.values()]", "left = []"),
}

MUTANTS = {
    **{name: (inbox_module, ("Inbox", "Inboxes"), *texts) for name, texts in OF_INBOXES.items()},
    **{name: (latest_module, ("Latest", "Waiting"), *texts) for name, texts in OF_LATEST.items()},
}
"""Rules that are missing: a module, its classes, and what of its text is something else then."""


def first_failure() -> str | None:
    for trace in TRACES:
        try:
            replay_handles(trace)
        except (AssertionError, LookupError, TypeError) as error:
            return f"{trace.name}: {error}"
    return None


def test_they_are_what_is_handed_out_now() -> None:
    kept = {trace.name: trace.text() for trace in TRACES}
    made = {trace.name: trace.text() for trace in generate_handing()}
    differing = sorted(name for name in {*kept, *made} if kept.get(name) != made.get(name))
    assert differing == [], "run python -m softstate.testing.conformance.client, and review the difference"


def test_the_client_as_it_is_fails_in_none() -> None:
    assert first_failure() is None


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_fails_in_some_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, classes, old, new = MUTANTS[name]
    text = inspect.getsource(module)
    assert text.count(old) == 1, "the rule is written otherwise by now"
    changed = ModuleType(module.__name__)
    exec(compile(text.replace(old, new), str(module.__file__), "exec"), changed.__dict__)
    for each in classes:
        monkeypatch.setattr(handles, each, getattr(changed, each))
    assert first_failure(), "no trace shows that this rule is missing: write a scenario that does"


def changed_step(line: Json) -> Trace:
    trace = Trace.of((HANDING / "order/reset.ndjson").read_text("utf-8"))
    at = next(at for at, each in enumerate(trace.lines) if each["do"] == "take")
    trace.lines[at] = {**trace.lines[at], **line}
    return trace


def test_a_replay_names_the_line_and_what_differs() -> None:
    with pytest.raises(HandingDiffers, match=r"^order/reset, line 7, take: `give` is \[.*the trace has \[\]$"):
        replay_handles(changed_step({"give": []}))
