"""Deleted topics, as the real client sees them on a real node."""

import pytest

import softstate
from softstate import Change
from tests.kit.node_rig import node


@pytest.mark.parametrize("codec", ["cbor", "json"])
async def test_the_client_sees_the_tombstone_of_a_real_node(codec: str) -> None:
    async with node() as rig, softstate.connect(rig.url, codec=codec) as client:  # type: ignore[arg-type]
        assert await client.get("a") is None
        first = await client.publish("a", 1)
        assert await client.get("a") == Change("a", first, 1)
        deleted = await client.delete("a")
        assert await client.get("a") == Change("a", deleted, deleted=True)
        assert await client.delete("a") == deleted
        assert await client.delete("never") == 0
        assert await client.get("never") is None
        again = await client.publish("a", 2, expect=deleted)
        assert await client.get("a") == Change("a", again, 2)
        assert rig.node.hub.position.revision == again
