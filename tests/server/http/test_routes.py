import pytest

from softstate.server.http.routes import route_name
from tests.kit.fake_node import FakeNode


async def test_healthz_answers_also_while_the_store_is_down() -> None:
    node = FakeNode()
    node.unready = "the store does not answer"
    assert (await node.ask("GET", "/healthz")).json == {"status": "ok"}


async def test_readyz() -> None:
    node = FakeNode()
    assert (await node.ask("GET", "/readyz")).status == 200
    node.unready = "publishes fail: no space left"
    assert (await node.ask("GET", "/readyz")).status == 200
    assert (await node.ask("GET", "/readyz?restored=1")).status == 200
    answer = await node.ask("GET", "/readyz?a=1&store")
    assert (answer.status, answer.code, answer["retry-after"]) == (503, "unavailable", "1")
    assert answer.json["message"] == "publishes fail: no space left"
    node.unready, node.lagging = None, "the node lags behind its store"
    assert (await node.ask("GET", "/readyz")).status == 503
    node.lagging, node.draining = None, True
    assert (await node.ask("GET", "/readyz")).status == 503


async def test_metrics() -> None:
    answer = await FakeNode().ask("GET", "/metrics")
    assert answer["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.body == b"softstate_sessions 0.0\n"


async def test_status() -> None:
    answer = await FakeNode().ask("GET", "/v1/status")
    assert (answer.status, answer.json["node"]) == (200, "fake")
    assert "softstate-position" in answer.headers


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/topic", "/v2/poll", "//v1/poll", "/v1/poll/"])
async def test_unknown_routes_list_the_known_ones(path: str) -> None:
    answer = await FakeNode().ask("GET", path)
    assert (answer.status, answer.code) == (404, "not_found")
    for route in ("/v1/topics/{topic}", "/v1/topics", "/v1/poll", "/v1/publish", "/healthz", "/v1/ws"):
        assert route in answer.json["message"]
    assert route_name(path) == "other"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/topics/a", "OPTIONS, HEAD, GET, PUT, DELETE"),
        ("PUT", "/v1/topics", "OPTIONS, HEAD, GET"),
        ("GET", "/v1/poll", "OPTIONS, POST"),
        ("HEAD", "/v1/publish", "OPTIONS, POST"),
        ("DELETE", "/healthz", "OPTIONS, HEAD, GET"),
        ("BREW", "/metrics", "OPTIONS, HEAD, GET"),
    ],
)
async def test_other_methods_are_refused(method: str, path: str, allowed: str) -> None:
    answer = await FakeNode().ask(method, path)
    assert (answer.status, answer["allow"]) == (405, allowed)


async def test_options() -> None:
    answer = await FakeNode().ask("OPTIONS", "/v1/poll")
    assert (answer.status, answer["allow"]) == (204, "OPTIONS, POST")
    assert (await FakeNode().ask("OPTIONS", "/nowhere")).status == 404


async def test_absolute_targets() -> None:
    assert (await FakeNode().ask("GET", "http://node:8700/healthz?x=1")).status == 200
    assert (await FakeNode().ask("GET", "http://localhost:8700")).status == 404
