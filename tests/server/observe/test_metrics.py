from __future__ import annotations

from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from softstate.server.measure.histogram import Histogram
from softstate.server.observe.catalogue import METRICS, Described, full_name, table
from softstate.server.observe.metrics import Labelled, by_label, render


def samples(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_numbers_are_shown_with_their_labels() -> None:
    labelled: Mapping[str, Labelled] = {
        "websocket_closes": by_label({1002: 9}),
        "http_replies": {("/v1/poll", "200"): 3, ("/v1/poll", "400"): 1},
    }
    assert samples(render({"sessions": 1, "commits": 2}, labelled)) == {
        ("softstate_sessions", ()): 1,
        ("softstate_commits_total", ()): 2,
        ("softstate_websocket_closes_total", ("1002",)): 9,
        ("softstate_http_replies_total", ("/v1/poll", "200")): 3,
        ("softstate_http_replies_total", ("/v1/poll", "400")): 1,
    }


def test_a_histogram_counts_up() -> None:
    durations = Histogram((0.1, 1.0))
    for duration_s in (0.05, 0.1, 0.5, 7.0):
        durations.observe(duration_s)
    found = samples(render({"client_age_seconds": durations}, {}))
    name = "softstate_client_age_seconds"
    assert found == {
        (f"{name}_bucket", ("0.1",)): 2,
        (f"{name}_bucket", ("1.0",)): 3,
        (f"{name}_bucket", ("+Inf",)): 4,
        (f"{name}_count", ()): 4,
        (f"{name}_sum", ()): pytest.approx(7.65),
    }


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_its_kind_and_words(name: str) -> None:
    metric, full = METRICS[name], full_name(name)
    number = Histogram() if metric.kind == "histogram" else 1
    text = render({}, {name: {tuple(metric.labels): number}}).decode()
    assert text.startswith(f"# HELP {full} {metric.help}\n# TYPE {full} {metric.kind}\n{full}")
    assert full in table()


def test_labels_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "x", Described("gauge", "words", ("what",)))
    assert samples(render({}, {"x": {('a"b\n\\',): 1}})) == {("softstate_x", ('a"b\n\\',)): 1}


def test_two_nodes_share_no_registry() -> None:
    assert render({"commits": 1}, {}) == render({"commits": 1}, {})
