"""The description of the requests over HTTP is what the table of routes makes of it, and is served to everybody."""

import json

import pytest

from softstate.server.http import openapi
from softstate.server.http.openapi_route import OPENAPI_FILE
from softstate.server.http.reference import REFERENCE_FILE, page
from softstate.server.http.routes import ROUTES
from softstate.web import PAGE_PATHS, WEB_PATHS
from tests.kit.fake_node import FakeNode

AGAIN = "write it again: python -m softstate.server.http.describe"
DESCRIBED = json.loads(OPENAPI_FILE.read_bytes())


def test_the_committed_description_is_the_generated_one() -> None:
    assert OPENAPI_FILE.read_text(encoding="utf-8") == openapi.text(), AGAIN


def test_the_committed_page_is_the_generated_one() -> None:
    assert REFERENCE_FILE.read_text(encoding="utf-8") == page(), AGAIN


def test_every_request_is_described_but_for_the_browser_client() -> None:
    left_out = {path for path, methods in ROUTES.items() for each in methods.values() if each.about is None}
    assert left_out == {*WEB_PATHS, *PAGE_PATHS}
    described = {path: set(item) - {"parameters"} for path, item in DESCRIBED["paths"].items()}
    assert described == {
        path: {method.lower() for method in methods} for path, methods in ROUTES.items() if path not in left_out
    }


def test_a_parameter_says_what_it_means() -> None:
    for methods in ROUTES.values():
        for operation in methods.values():
            headers = {} if operation.about is None else operation.about.headers
            assert [name for name, each in {**operation.parameters, **headers}.items() if not each.what] == []


def test_every_reference_leads_somewhere() -> None:
    def references(item: object) -> list[str]:
        if isinstance(item, list):
            return [found for each in item for found in references(each)]
        if isinstance(item, dict):
            mine = [item["$ref"]] if isinstance(item.get("$ref"), str) else []
            return mine + [found for each in item.values() for found in references(each)]
        return []

    found = set(references(DESCRIBED))
    assert len(found) > 30
    for reference in found:
        place = DESCRIBED
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]


@pytest.mark.parametrize(("path", "method", "name", "form"), [
    ("/v1/topics", "get", "limit", {"type": "integer", "minimum": 1, "maximum": 1024, "default": 1024}),
    ("/v1/topics/{topic}", "put", "expect", {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}),
])  # fmt: skip
def test_a_parameter_has_its_limits(path: str, method: str, name: str, form: dict[str, object]) -> None:
    (found,) = (each for each in DESCRIBED["paths"][path][method]["parameters"] if each["name"] == name)
    assert found["schema"] == form


def test_a_body_needs_no_op_and_has_no_other_fields() -> None:
    body = DESCRIBED["components"]["schemas"]["PollBody"]
    assert body["required"] == []
    assert body["additionalProperties"] is False
    assert body["properties"]["op"] == {"enum": ["poll"]}


async def test_it_is_served_to_who_presents_nothing(node: FakeNode) -> None:
    answer = await node.ask("GET", "/v1/openapi.json")
    assert (answer.status, answer["content-type"]) == (200, "application/json")
    assert answer.body == OPENAPI_FILE.read_bytes()
    assert "softstate-position" not in answer.headers
