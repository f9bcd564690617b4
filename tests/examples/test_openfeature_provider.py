"""Flags by OpenFeature: they have their default before a node answers, their values then, and go on when it is gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from softstate.examples.openfeature_provider import SoftstateProvider
from tests.kit.loops import NodeThread, node_thread
from tests.kit.processes import until

FLAGS = {"on": True, "text": "a", "count": 3, "half": 0.5, "object": {"a": 1}}


@pytest.fixture
def node() -> Iterator[NodeThread]:
    with node_thread() as node:
        yield node


@pytest.fixture
def provider(node: NodeThread) -> Iterator[SoftstateProvider]:
    provider = SoftstateProvider(node.url)
    yield provider
    api.shutdown()


@pytest.fixture
def flags(provider: SoftstateProvider) -> OpenFeatureClient:
    for name, value in FLAGS.items():
        provider.soft.publish(f"flags/{name}", value)
    api.set_provider(provider)
    client = api.get_client()
    until("a node has answered", lambda: client.get_boolean_value("on", default_value=False))
    return client


def test_every_type_is_answered(flags: OpenFeatureClient) -> None:
    assert flags.get_boolean_value("on", False) is True
    assert flags.get_string_value("text", "") == "a"
    assert flags.get_integer_value("count", 0) == 3
    assert flags.get_float_value("half", 0.0) == 0.5
    assert flags.get_object_value("object", {}) == {"a": 1}


def test_a_flag_that_is_not_there_or_of_another_type_has_its_default(flags: OpenFeatureClient) -> None:
    assert flags.get_boolean_details("none", True).error_code == ErrorCode.FLAG_NOT_FOUND
    assert flags.get_integer_details("on", 7).error_code == ErrorCode.TYPE_MISMATCH
    assert flags.get_integer_value("on", 7) == 7


def test_before_the_first_answer_there_is_the_default(provider: SoftstateProvider) -> None:
    details = provider.resolve_boolean_details("on", True)
    assert (details.value, details.error_code) == (True, ErrorCode.PROVIDER_NOT_READY)


def test_flags_go_on_without_a_node_and_say_that_they_are_old(
    flags: OpenFeatureClient, provider: SoftstateProvider, node: NodeThread
) -> None:
    assert flags.get_boolean_details("on", False).reason == Reason.CACHED
    node.kill()
    provider.max_age = 0.0
    details = flags.get_boolean_details("on", False)
    assert (details.value, details.reason) == (True, Reason.STALE)
    provider.max_age = 60.0
    node.start()
    provider.soft.publish("flags/on", False)
    until("the new value is there", lambda: flags.get_boolean_value("on", True) is False)
