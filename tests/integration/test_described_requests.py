"""A node answers requests as `wire/openapi.json` describes them: random ones, of a fixed seed, by schemathesis.

Every status, media type, header and body is one that is described, and what the description forbids is refused.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, seed, settings

from softstate.server.http.openapi_route import OPENAPI_FILE
from tests.kit.node_rig import node
from tests.kit.rules_gate import RulesGate

SEED = 20261130

UNTOLD = (
    "only one can be obeyed",  # of conditions
    "cursor must be what the page before gave",
    "got `float`",  # 5.0, which JSON Schema takes for an integer
    "seq must be above settled",
    "seq and settled need a publisher",
    "name at least one topic or prefix",
    "say what to explain",
    "bytes of UTF-8, this one has",
    "If-Match must look like",
    "must be an integer of 64 bits",
    "beside a token",
    "not both",
    "present one as Authorization",
)
"""Reasons to refuse a request that no schema of it can tell, by words of the refusal."""


@pytest.mark.timeout(180)
async def test_a_node_answers_as_it_is_described() -> None:
    assert await findings(3) == []


@pytest.mark.timeout(1_200)
async def test_a_node_answers_very_many_requests_as_it_is_described() -> None:
    assert await findings(60) == []


async def findings(cases: int) -> list[str]:
    """Ask a node that checks credentials."""
    pytest.importorskip("schemathesis")
    rules = RulesGate()
    rules.may("root", admin=True)
    rules.issue("root", "root")
    options: dict[str, Any] = {"hold_ms_max": 1, "timeout_ms": 50, "stream_s": 0.01}
    async with node(parts={"authority": rules}, wait_s=120 + cases * 15, **options) as running:
        return await trio.to_thread.run_sync(Trial(f"http://127.0.0.1:{running.port}", cases).run)


class Trial:
    """Requests to the node at `base`, at most `cases` of each kind: valid ones, invalid ones, and without a token."""

    def __init__(self, base: str, cases: int) -> None:
        import requests  # noqa: PLC0415 - only who asks for this test has them
        import schemathesis  # noqa: PLC0415
        from schemathesis.specs.openapi import checks  # noqa: PLC0415

        self._base, self._cases = base, cases
        self._schema = schemathesis.openapi.from_dict(json.loads(OPENAPI_FILE.read_bytes()))
        self._modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
        self._checks = [
            checks.status_code_conformance, checks.content_type_conformance, checks.response_headers_conformance,
            checks.response_schema_conformance, checks.negative_data_rejection,
        ]  # fmt: skip
        self._session = requests.Session()
        self._found: list[str] = []
        self._refused: set[str] = set()

    def run(self) -> list[str]:
        """Ask, and return what was not as described."""
        with self._session:
            for each in self._schema.get_all_operations():
                operation: Any = each.ok()  # type: ignore[union-attr]  # it raises if it is none
                takes_nothing = not (
                    operation.query or operation.headers or operation.path_parameters or operation.body
                )
                for mode in self._modes[:1] if takes_nothing else self._modes:
                    self._ask(operation.as_strategy(generation_mode=mode), mode is self._modes[0])
        return self._found

    def _ask(self, strategy: Any, valid: bool) -> None:
        @seed(SEED)
        @settings(
            max_examples=self._cases, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=strategy)
        def ask(case: Any) -> None:
            self._look_at(case, {"Authorization": "Bearer root"}, valid)
            if valid and case.operation.label not in self._refused:
                self._refused.add(case.operation.label)
                self._look_at(case, {}, valid=False)  # without a token

        ask()

    def _look_at(self, case: Any, headers: dict[str, str], valid: bool) -> None:
        response = case.call(base_url=self._base, session=self._session, headers=headers, timeout=5)
        if b'"reason":"overloaded"' in response.content or b'"reason":"unavailable"' in response.content:
            return  # a stream that would be served too late ends at once, and nobody has looked at its body (P-SSE-7)
        try:
            # Any refusal is one: the last check knows no 412, 413 and 431.
            refused = 400 <= response.status_code < 500
            case.validate_response(response, checks=self._checks[:-1] if refused else self._checks)
        except BaseExceptionGroup as group:
            self._found.append(f"{case.method} {case.path}: {group.exceptions}")
        code = response.json().get("code") if response.status_code >= 400 else None
        if response.status_code >= 500 and code != "behind":
            self._found.append(f"{case.method} {case.path}: {response.text}")
        elif valid and code == "invalid" and not any(words in response.json()["message"] for words in UNTOLD):
            self._found.append(f"{case.method} {case.path}: {response.text}: it was refused, though it is as described")
