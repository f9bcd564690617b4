"""The public names, listed in full: every type in a public signature has a public name.

A name that is added to or taken from a public module, or a method or attribute of a public class, is a decision for
users: it changes a list below.
"""

from __future__ import annotations

import inspect
import re
import tomllib
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import softstate
from softstate.client.api.connect import connect
from softstate.testing import memory_node

ROOT = Path(__file__).parents[1]

PUBLIC_MODULES = ("softstate", "softstate.errors", "softstate.sync", "softstate.store", "softstate.testing")

PUBLIC_IN_INTERNAL_MODULES = {"softstate.server": ["ServerConfig"]}
"""`memory_node` and `World` take the settings of a node; nothing else of the server is promised to stay."""

NOT_CONSTRUCTED = {
    "Client", "Faults", "MemoryNode", "Receipt", "SimClient", "SimConnection", "SimNetwork", "SimNode", "SimStream",
    "StreamListener",
    "SyncClient", "Updates", "World",
}  # fmt: skip
"""Classes that a function or another class makes, as their docstrings say: their constructors are internal."""

NOT_PROMISED = {"SimConnection.pipes"}
"""Members that only the simulator's own parts use."""

MEMBERS = {
    "Change": "deleted topic value version",
    "Client": "age bound_s close create delete delete_soon get known last_error list mode modes position publish"
    " publish_soon read statistics status subscribe update",
    "Clock": "now",
    "Durability": "DURABLE NONE REPLICATED WEAK",
    "ModeChanged": "because mode url",
    "Position": "at epoch lineage parse revision same_lineage",
    "Known": "age topic value version",
    "SyncClient": "age close delete follow get known last_error list mode publish read statistics update watch",
    "Published": "id position repeated topic version",
    "Receipt": "drop settled wait",
    "Reset": "position",
    "Statistics": "beats connects dropped history_mismatches misses polls publishes_repeated repairs_mismatch"
    " repairs_no_lease repairs_sent_unequal repairs_unanswered repairs_unknown resets resumed welcomes",
    "Updates": "age batches close denied events fresh get names reset_count snapshot synced unreadable",
    "MemoryNode": "connect kill start url",
    "Store": "aclose adopt audit cautions compact destroy dump feed gauges head info layout lineage_at publish"
    " publishers_max read reopen unwritten wait wakes_for_own warnings",
}
"""The names that a class shows beside those of its bases in the standard library, Trio and msgspec."""


def module(name: str) -> ModuleType:
    return import_module(name)


def exported() -> dict[str, object]:
    """Every public object, under ``module.name``."""
    names = {name: module(name).__all__ for name in PUBLIC_MODULES} | PUBLIC_IN_INTERNAL_MODULES
    return {f"{place}.{name}": getattr(module(place), name) for place, found in names.items() for name in found}


EXPORTED = exported()
CLASSES = {thing: name for name, thing in EXPORTED.items() if inspect.isclass(thing)}


def own_members(kind: type) -> set[str]:
    return {
        name
        for base in kind.__mro__
        if base.__module__.startswith("softstate")
        for name in vars(base)
        if not name.startswith("_")
    }


def signatures(name: str, thing: object) -> Iterator[tuple[str, object]]:
    """List what of a public object has type hints: a function, or a class with its fields and public members."""
    if not inspect.isclass(thing):
        if callable(thing) and hasattr(thing, "__annotations__"):
            yield name, thing
        return
    yield name, thing
    if "__init__" in vars(thing) and thing.__name__ not in NOT_CONSTRUCTED:
        yield f"{name}()", vars(thing)["__init__"]
    for member in sorted(own_members(thing)):
        found = inspect.getattr_static(thing, member)
        found = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
        if callable(found) and f"{thing.__name__}.{member}" not in NOT_PROMISED:
            yield f"{name}.{member}", found


def classes_in(hint: Any) -> Iterator[type]:
    """List the classes that a type hint is built of: through generics, unions, callables and annotations."""
    if isinstance(hint, list | tuple):
        for part in hint:
            yield from classes_in(part)
    elif (origin := typing.get_origin(hint)) is not None:
        yield from classes_in(origin)
        if origin is not typing.Literal:
            yield from classes_in(typing.get_args(hint))
    elif inspect.isclass(hint):
        yield hint


# The lists -----------------------------------------------------------------------------------------------------------


def test_the_docstring_says_which_modules_are_public() -> None:
    assert softstate.__doc__ is not None
    assert tuple(re.findall(r"^- `([\w.]+)`:", softstate.__doc__, re.MULTILINE)) == PUBLIC_MODULES


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_a_public_module_lists_its_names(name: str) -> None:
    listed = module(name).__all__
    assert len(listed) == len(set(listed))
    for each in listed:
        assert hasattr(module(name), each), each


def test_every_error_is_at_the_root_too() -> None:
    errors = {name for name in module("softstate.errors").__all__ if inspect.isclass(getattr(softstate.errors, name))}
    assert errors <= set(softstate.__all__)


def test_a_public_object_has_one_name() -> None:
    names: dict[int, set[str]] = {}
    for name, thing in EXPORTED.items():
        if inspect.isclass(thing) or inspect.isfunction(thing):
            names.setdefault(id(thing), set()).add(name.rpartition(".")[2])
    assert [found for found in names.values() if len(found) > 1] == []


@pytest.mark.parametrize("name", MEMBERS)
def test_a_public_class_shows_what_is_listed_and_nothing_internal(name: str) -> None:
    (kind,) = {thing for place, thing in EXPORTED.items() if place.rpartition(".")[2] == name}
    assert isinstance(kind, type)
    assert sorted(own_members(kind)) == sorted(MEMBERS[name].split())


async def test_what_a_client_holds_is_internal(autojump_clock: MockClock) -> None:
    async with memory_node() as node, node.connect() as client, client.subscribe("a") as updates:
        receipt = client.publish_soon("a", 1)
        await receipt.wait()
        for thing in (client, updates, receipt):
            assert {name for name in vars(thing) if not name.startswith("_")} == set(), thing


def test_the_version_has_one_source() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "softstate/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", softstate.__version__)


# Types ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPORTED)
def test_every_type_in_a_public_signature_has_a_public_name(name: str) -> None:
    for place, thing in signatures(name, EXPORTED[name]):
        for part, hint in typing.get_type_hints(thing).items():
            for kind in classes_in(hint):
                internal = kind.__module__.startswith("softstate") and kind not in CLASSES
                assert not internal, f"{place}: {part} is a {kind.__module__}.{kind.__name__}, which has no public name"


def test_a_type_is_found_however_deep_it_is() -> None:
    def deep(_: dict[str, list[softstate.Change | None]]) -> typing.Callable[[Random], trio.Event]:
        raise NotImplementedError

    hints = typing.get_type_hints(deep, {**globals(), **locals()})
    found = {kind for hint in hints.values() for kind in classes_in(hint)}
    assert {softstate.Change, Random, trio.Event, dict, list} <= found


def test_connect_is_the_way_in() -> None:
    assert softstate.connect is connect
