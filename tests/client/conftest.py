"""Fixtures of the client's tests."""

import pytest
import trio

from tests.kit.push_node import PushNode
from tests.kit.scripted_node import ScriptedNode


@pytest.fixture
def push(nursery: trio.Nursery) -> PushNode:
    node = ScriptedNode(nursery)
    push = PushNode(node)
    node.websocket = push.serve
    return push
