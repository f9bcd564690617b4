"""The dashboard and the alerts name nothing but what a node shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from softstate.server import Node, ServerConfig
from softstate.server.observe.catalogue import METRICS, base_name, full_name
from softstate.store.memory.store import MemoryDisk, MemoryStore
from tests.kit.code_map import ROOT

OPS = ROOT / "softstate" / "ops"
ALERTS = OPS / "alerts.yaml"
DASHBOARD: dict[str, Any] = json.loads((OPS / "grafana.json").read_text(encoding="utf-8"))
PANELS = 12

ONLY_WITH_TLS = {"softstate_tls_expires_seconds"}


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    yield from re.findall(r"expr: (\|\n(?: {10}.*\n)+|.*\n)", ALERTS.read_text(encoding="utf-8"))


async def metrics() -> str:
    store = MemoryStore(MemoryDisk(Random(1)))
    return Node(ServerConfig(), store, await store.head()).metrics().decode()


async def test_every_metric_that_is_named_is_shown() -> None:
    text = await metrics()
    shown = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} | ONLY_WITH_TLS
    named = {name for each in expressions() for name in re.findall(r"\b(?:softstate|process)_\w+", each)}
    assert len(named) > 25
    assert {re.sub(r"_bucket$", "", name) for name in named} <= shown


def test_every_label_that_is_named_is_one_of_its_metric() -> None:
    known = {full_name(name): set(metric.labels) for name, metric in METRICS.items()}
    found = 0
    for each in expressions():
        for by, name in re.findall(r"sum by \((\w+)\) \(?(?:rate\()?(\w+)", each):
            found += 1
            assert by in {"le", "instance", *known.get(name, set())}, each
        for name, label in re.findall(r"(softstate_\w+)\{(\w+)", each):
            found += 1
            assert label in known[name], each
    assert found > 10


def test_the_dashboard_has_its_panels_side_by_side() -> None:
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places) == PANELS
    assert {panel["id"] for panel in DASHBOARD["panels"]} == set(range(1, PANELS + 1))
    assert all(x + width <= 24 and x % 8 == y % 8 == 0 for x, y, width, _ in places)


@pytest.mark.parametrize("name", METRICS)
def test_a_name_ends_in_a_base_unit(name: str) -> None:
    if METRICS[name].kind == "histogram":
        assert base_name(name).endswith("_seconds")
