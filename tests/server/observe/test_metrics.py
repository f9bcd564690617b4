import pytest
from prometheus_client.parser import text_string_to_metric_families

from softstate.server.http.server import HttpStatistics
from softstate.server.observe.metrics import COUNTS, Family, families_of, render


def samples(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_everything_a_node_counts_is_shown() -> None:
    http = HttpStatistics({("/v1/poll", 200): 3, ("/v1/poll", 400): 1}, upgrades=4, connections=5, holds=6)
    counts, repairs, closes = {"sessions": 1, "commits": 2, "new_thing": 7}, {"expired": 8}, {1002: 9}
    found = samples(
        render(families_of(counts, repairs, closes, http, {"expired": 4}, {"polls_per_s": 3}, {"names": 5}))
    )
    assert found == {
        ("softstate_sessions", ()): 1,
        ("softstate_commits_total", ()): 2,
        ("softstate_new_thing", ()): 7,
        ("softstate_repairs_total", ("expired",)): 8,
        ("softstate_websocket_closes_total", ("1002",)): 9,
        ("softstate_credentials_refused_total", ("expired",)): 4,
        ("softstate_limited_total", ("polls_per_s",)): 3,
        ("softstate_memory_estimated_bytes", ("names",)): 5,
        ("softstate_http_replies_total", ("/v1/poll", "200")): 3,
        ("softstate_http_replies_total", ("/v1/poll", "400")): 1,
        ("softstate_upgrades_total", ()): 4,
        ("softstate_http_connections", ()): 5,
        ("softstate_http_holds", ()): 6,
    }


@pytest.mark.parametrize("name", COUNTS)
def test_known_numbers_have_their_kind_and_words(name: str) -> None:
    kind, words = COUNTS[name]
    full = f"softstate_{name}_total" if kind == "counter" else f"softstate_{name}"
    text = render(families_of({name: 1}, {}, {}, HttpStatistics({}, 0, 0, 0), {}, {}, {}))
    assert f"# HELP {full} {words}\n# TYPE {full} {kind}\n{full} 1.0\n".encode() in text


def test_labels_are_escaped() -> None:
    family = Family("x", "words", "gauge", {('a"b\n\\',): 1}, ("what",))
    assert samples(render([family])) == {("softstate_x", ('a"b\n\\',)): 1}


def test_two_nodes_share_no_registry() -> None:
    family = Family("x", "words", "counter", {(): 1})
    assert render([family]) == render([family])
