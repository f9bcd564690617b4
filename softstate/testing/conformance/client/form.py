"""The JSON form of events, actions, options and errors, both ways.

An event is an object with `event`, its name, and its fields; an action an object with one key, its name. Messages are
in the protocol's own JSON form, infinity is null, and a field that has no value is null.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias, cast, get_args

import msgspec

from softstate.client.machine.backoff import Advice
from softstate.client.machine.events import Action, Event, Narrowing, PublishRequested
from softstate.client.machine.state import MachineOptions
from softstate.errors import ERRORS_BY_CODE, ClientClosed, OutcomeUnknown, RequestError, SoftstateError
from softstate.model import Change
from softstate.position import Position
from softstate.wire import JSON
from softstate.wire.messages import BatchResult, ServerMessage
from softstate.wire.value import unwrap_bytes, wrap_bytes

Json: TypeAlias = dict[str, Any]

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")

_OWN_ERRORS: dict[type[SoftstateError], str] = {ClientClosed: "client_closed", OutcomeUnknown: "outcome_unknown"}
"""Errors that no node sends."""

_ERROR_FIELDS = ("retry_ms", "current", "position", "why", "version")


def name_of(kind: type) -> str:
    """Return the name of a kind of event or action: ``PollAnswered`` is ``poll_answered``."""
    return _WORD.sub("_", kind.__name__).lower()


EVENTS: dict[str, type] = {name_of(kind): kind for kind in get_args(Event)}
"""Every kind of event, by its name."""

ACTIONS: dict[str, type] = {name_of(kind): kind for kind in get_args(Action)}
"""Every kind of action, by its name."""


# To JSON -------------------------------------------------------------------------------------------------------------


def event_form(event: Event) -> Json:
    """Return the JSON form of an event."""
    found = {"event": name_of(type(event)), **_fields(event)}
    if isinstance(event, PublishRequested):
        found["value"] = wrap_bytes(event.value)
        if event.deleted:
            del found["value"]
    return found


def action_form(action: Action) -> Json:
    """Return the JSON form of an action."""
    return {name_of(type(action)): _fields(action)}


def options_form(options: MachineOptions) -> Json:
    """Return the JSON form of a machine's options, all of them."""
    return _fields(options)


def change_form(change: Change) -> Json:
    """Return a change as pages carry it: with its value, or `deleted`."""
    head = {"topic": change.topic, "version": change.version}
    return {**head, "deleted": True} if change.deleted else {**head, "value": wrap_bytes(change.value)}


def error_form(error: SoftstateError) -> Json:
    """Return the JSON form of an error: its `code` and `message`, and those of its other fields that are set."""
    if not isinstance(error, RequestError):
        return {"code": _OWN_ERRORS[type(error)], "message": str(error)}
    told = {name: plain(getattr(error, name)) for name in _ERROR_FIELDS}
    return {"code": error.code, "message": error.message} | {
        name: item for name, item in told.items() if item is not None
    }


def plain(item: Any) -> Any:
    """Return the JSON form of anything that an event or an action holds, but for values."""
    match item:
        case float():
            return item if math.isfinite(item) else None
        case None | bool() | int() | str():
            return item
        case SoftstateError():
            return error_form(item)
        case Change():
            return change_form(item)
        case msgspec.Struct():
            return _message_form(item)
        case frozenset():
            return sorted(item)
        case Mapping():
            return {key: plain(each) for key, each in item.items()}
    return _fields(item) if is_dataclass(item) else [plain(each) for each in item]


def _fields(item: Any) -> Json:
    # Fields that are not compared hold words for people, which another client may choose itself.
    return {field.name: plain(getattr(item, field.name)) for field in fields(item) if field.compare}


def _message_form(message: msgspec.Struct) -> Json:
    form: Json = wrap_bytes(msgspec.to_builtins(message, builtin_types=(bytes,)))
    changes = getattr(message, "changes", None)
    if changes and isinstance(changes[0], Change):
        form["changes"] = [change_form(change) for change in changes]
    return form


# From JSON -----------------------------------------------------------------------------------------------------------


def event_of(form: Json) -> Event:
    """Return the event that a step of a trace holds; keys that are no fields of it are passed over."""
    kind = EVENTS[form["event"]]
    found = {field.name: _field_of(field.name, form[field.name]) for field in fields(kind) if field.name in form}
    if kind is PublishRequested:
        found.setdefault("value", None)
    if kind is Narrowing:
        found["names"] = frozenset(found["names"])
    event: Event = kind(**found)
    return event


def options_of(form: Json) -> MachineOptions:
    """Return the options of a trace's machine."""
    return MachineOptions(**{**form, "urls": tuple(form["urls"]), "advice": Advice(**form["advice"])})


def error_of(form: Json | None) -> RequestError | None:
    """Return the error of a node that an event holds, if it holds one."""
    if form is None:
        return None
    position = form.get("position")
    told = {name: form[name] for name in _ERROR_FIELDS if name in form}
    if position is not None:
        told["position"] = msgspec.convert(position, Position)
    return ERRORS_BY_CODE.get(form["code"], RequestError)(form["message"], **told)


def _field_of(name: str, item: Any) -> Any:
    match name:
        case "message":
            return JSON.loads(json.dumps(item), cast("type[ServerMessage]", ServerMessage))
        case "results":
            return JSON.loads(json.dumps(item), list[BatchResult])
        case "error":
            return error_of(item)
        case "value":
            return unwrap_bytes(item)
    return item
