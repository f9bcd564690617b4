"""The line that a node prints once it listens, and the warnings below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from softstate.cli.visible import visible

if TYPE_CHECKING:
    from softstate.server import Node


async def announce(node: Node) -> None:
    """Print the addresses of a node that listens, and what is in its store."""
    topics = await node.topic_count()
    print(
        announcement(node.addresses, f"role {node.config.role}", node.store_name, str(node.durability), topics),
        flush=True,
    )
    warn(node.store.warnings)


def announcement(addresses: Sequence[str], role: str, store: str, durability: str, topics: int) -> str:
    """Return the line with the addresses, the role and the store of a node or a group of workers."""
    return visible(
        f"softstate listens on {', '.join('http://' + address for address in addresses)} "
        f"({role}); store {store}, {durability}, {topics} topic{'' if topics == 1 else 's'}"
    )


def warn(warnings: Sequence[str]) -> None:
    """Print why acknowledged publishes may be lost on this store."""
    for warning in warnings:
        print(f"warning: acknowledged publishes may be lost: {visible(warning)}", flush=True)
