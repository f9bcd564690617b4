"""Fixtures of the client's tests."""

import pytest
import trio

from tests.client.push_node import PushNode
from tests.client.scripted_node import ScriptedNode


@pytest.fixture
def push(nursery: trio.Nursery) -> PushNode:
    node = ScriptedNode(nursery)
    push = PushNode(node)
    node.websocket = push.serve
    return push
