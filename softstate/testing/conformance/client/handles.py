"""Level 2: what an application is handed, step by step. The reference's inboxes and waiting publishes, driven by data.

A step is an object with `do`, its kind, and the fields of that kind; `play` gives it to the client and returns the
step with what came of it. So one function records and replays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, final

import msgspec

from softstate.client.api.inbox import Inbox, Inboxes
from softstate.client.api.latest import Latest, Waiting
from softstate.client.api.receipt import Outcome
from softstate.client.machine.events import Deliver, ModeChanged, NamesDenied, NodeRefused, Reset, TopicsUnreadable
from softstate.errors import ClientClosed, OutcomeUnknown, SoftstateError
from softstate.model import Change
from softstate.names import covered
from softstate.position import Position
from softstate.testing.conformance.client.form import Json, action_form, change_form, error_form, error_of, event_form
from softstate.testing.conformance.client.trace import FORMAT, Trace
from softstate.wire.messages import Published
from softstate.wire.value import unwrap_bytes

_OWN_ERRORS = {"client_closed": ClientClosed, "outcome_unknown": OutcomeUnknown}
"""Errors that no node sends."""

GIVEN_MAX = 10_000
"""Most events that one `take` asks for."""


class HandingDiffers(AssertionError):
    """A client handed something else to its application than the trace says; the message names the line."""


@final
class Handles:
    """All handles and publishes of one client, without its machine."""

    def __init__(self) -> None:
        self._inboxes = Inboxes()
        self._handles: dict[str, Inbox] = {}
        self._latest = Latest()
        self._outcomes: dict[int, Outcome] = {}
        self._receipts: dict[str, Waiting | Outcome] = {}
        self._known: dict[str, Change] = {}
        self._submitted: list[Json] = []

    def play(self, step: Json) -> Json:
        """Do a step; return it with what came of it, in place of what the step says of that."""
        found: Json = getattr(self, f"_{step['do']}")(step)
        return {**{name: item for name, item in step.items() if name not in RESULTS}, **found}

    # Handles ---------------------------------------------------------------------------------------------------------

    def _subscribe(self, step: Json) -> Json:
        known = [change_of(form) for form in step.get("known", ())]
        damaged: Sequence[str] = step.get("unreadable", ())
        inbox = self._handles[step["handle"]] = Inbox(step["names"], lambda: None, narrow=step.get("narrow", False))
        told = self._inboxes.enter(
            inbox, lambda name: [each for each in known if covered({name: None}, each.topic)], lambda _: damaged
        )
        return {"tell": [event_form(event) for event in told]}

    def _close(self, step: Json) -> Json:
        return {"tell": [event_form(event) for event in self._inboxes.leave(self._handles[step["handle"]])]}

    def _act(self, step: Json) -> Json:
        ((name, fields),) = step["action"].items()
        match name:
            case "settled":
                self._outcomes.pop(fields["ticket"]).settle(outcome_of(fields["outcome"]))
                self._latest.advance()
                return self._submits()
            case "stopped":
                self._end(_error(fields["error"]))
                self._latest.advance()
                return self._submits()
            case _:
                self._inboxes.perform(action_of(name, fields))
        return {}

    def _close_client(self, _: Json) -> Json:
        self._end(closed := ClientClosed("closed"))
        for outcome in self._latest.clear():
            outcome.settle(closed)
        return {}

    def _end(self, error: SoftstateError) -> None:
        self._inboxes.end(error)
        for outcome in self._outcomes.values():
            outcome.settle(error)
        self._outcomes.clear()

    def _take(self, step: Json) -> Json:
        """Take all that there is, up to `most`; an error or the end comes last."""
        inbox = self._handles[step["handle"]]
        given: list[Any] = []
        for _ in range(step.get("most", GIVEN_MAX)):
            try:
                event = inbox.take()
            except StopAsyncIteration:
                given.append("end")
                break
            except SoftstateError as error:
                given.append({"raise": error_form(error)})
                break
            if event is None:
                break
            given.append({"change": change_form(event)} if isinstance(event, Change) else action_form(event))
        return {"give": given}

    def _look(self, step: Json) -> Json:
        inbox = self._handles[step["handle"]]
        return {"names": list(inbox.names), "denied": list(inbox.denied), "reset_count": inbox.reset_count}

    # Publishes -------------------------------------------------------------------------------------------------------

    def _publish(self, step: Json) -> Json:
        topic, value = step["topic"], step["value"]

        def submit(outcome: Outcome) -> int:
            ticket = 1 + max((each["ticket"] for each in self._submitted), default=0)
            self._submitted.append({"ticket": ticket, "topic": topic, "value": value, "told": False})
            self._outcomes[ticket] = outcome
            return ticket

        if step.get("each"):
            self._latest.flush(topic)
            outcome = Outcome(topic)
            self._receipts[step["receipt"]] = outcome
            submit(outcome)
        else:
            self._receipts[step["receipt"]] = self._latest.add(topic, Outcome(topic), submit)
        return self._submits()

    def _drop(self, step: Json) -> Json:
        """Give a receipt back; return the ticket that the machine is told to drop, if any."""
        receipt = self._receipts.pop(step["receipt"])
        assert isinstance(receipt, Waiting), "receipts of `each` are the machine's alone"
        return {"drops": self._latest.drop(receipt)}

    def _ask(self, step: Json) -> Json:
        """Ask a receipt for its outcome; null: not known yet."""
        receipt = self._receipts[step["receipt"]]
        outcome = receipt.outcome if isinstance(receipt, Waiting) else receipt
        outcome.tell()
        return {"outcome": outcome_form(outcome.known)}

    def _submits(self) -> Json:
        found = [each for each in self._submitted if not each["told"]]
        for each in found:
            each["told"] = True
        return {"submit": [{name: item for name, item in each.items() if name != "told"} for each in found]}


RESULTS = ("tell", "give", "denied", "reset_count", "submit", "drops", "outcome")
"""The fields of a step that say what came of it (and `names`, of a look)."""


def record(name: str, about: str, steps: Iterable[Json]) -> Trace:
    """Play steps on a client of their own, and return what came of them as a trace."""
    client = Handles()
    header = {"trace": name, "format": FORMAT, "level": 2, "about": about}
    return Trace(header, [client.play(step) for step in steps])


def replay_handles(trace: Trace) -> None:
    """Play the steps of a trace. Raises `HandingDiffers` at the first one of which something else comes."""
    client = Handles()
    for number, line in enumerate(trace.lines, start=2):
        found = client.play(line)
        if found != line:
            differing = [name for name in found.keys() | line.keys() if found.get(name) != line.get(name)]
            texts = "; ".join(f"`{name}` is {found.get(name)}, the trace has {line.get(name)}" for name in differing)
            raise HandingDiffers(f"{trace.name}, line {number}, {line['do']}: {texts}")


def change_of(form: Json) -> Change:
    """Return the change that an object stands for."""
    return Change(form["topic"], form["version"], unwrap_bytes(form.get("value")), deleted=form.get("deleted", False))


def action_of(name: str, fields: Json) -> Deliver | Reset | ModeChanged | NodeRefused | TopicsUnreadable | NamesDenied:
    """Return an action of the machine that is meant for handles."""
    match name:
        case "deliver":
            return Deliver([change_of(form) for form in fields["changes"]])
        case "reset":
            return Reset(msgspec.convert(fields["position"], Position))
        case "mode_changed":
            return ModeChanged(fields["mode"])
        case "node_refused":
            error = error_of(fields["error"])
            assert error is not None, "a refusal has an error"
            return NodeRefused(fields["url"], error)
        case "topics_unreadable":
            return TopicsUnreadable(fields["topics"])
        case "names_denied":
            return NamesDenied(fields["names"], fields.get("narrow", {}))
    raise ValueError(f"{name!r} is no action for handles")


def outcome_of(form: Json) -> Published | SoftstateError:
    """Return the outcome of a publish."""
    return _error(form) if "code" in form else msgspec.convert(form, Published)


def outcome_form(outcome: Published | SoftstateError | None) -> Any:
    """Return the form of an outcome; null for one that is not known."""
    if outcome is None:
        return None
    return error_form(outcome) if isinstance(outcome, SoftstateError) else msgspec.to_builtins(outcome)


def _error(form: Json) -> SoftstateError:
    if (own := _OWN_ERRORS.get(form["code"])) is not None:
        return own(form["message"])
    error = error_of(form)
    assert error is not None
    return error
