"""The line that a node prints once it listens, and the warnings below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from softstate.addresses import UNIX_SCHEME, is_loopback
from softstate.cli.visible import visible
from softstate.server.config import ServerConfig

if TYPE_CHECKING:
    from softstate.server import Node


async def announce(node: Node) -> None:
    """Print the addresses of a node that listens, and what is in its store."""
    topics = await node.topic_count()
    print(
        announcement(
            urls_of(node.config, node.addresses),
            f"role {node.config.role}",
            node.store_name,
            str(node.durability),
            topics,
        ),
        flush=True,
    )
    warn(node.store.warnings)
    tell_page(node.config, urls_of(node.config, node.addresses))
    tell_reach(node.config)


def status_of(node: Node) -> str:
    """Return where a node is reached, and its store."""
    return f"{', '.join(urls_of(node.config, node.addresses))}; store {node.store_name}, {node.durability}"


def urls_of(config: ServerConfig, addresses: Sequence[str]) -> list[str]:
    """Return where a node that listens on these addresses is reached."""
    scheme = "https" if config.tls_cert else "http"
    return [address if address.startswith(UNIX_SCHEME) else f"{scheme}://{address}" for address in addresses]


def announcement(urls: Sequence[str], role: str, store: str, durability: str, topics: int) -> str:
    """Return the line with the URLs, the role and the store of a node or a group of workers."""
    return visible(
        f"softstate listens on {', '.join(urls)} "
        f"({role}); store {store}, {durability}, {topics} topic{'' if topics == 1 else 's'}"
    )


def warn(warnings: Sequence[str]) -> None:
    """Print why acknowledged publishes may be lost on this store."""
    for warning in warnings:
        print(f"warning: acknowledged publishes may be lost: {visible(warning)}", flush=True)


def tell_page(config: ServerConfig, urls: Sequence[str]) -> None:
    """Print where the page of ``--ui`` is, if there is one, for each of these URLs that a browser can open."""
    pages = [f"{url}/ui" for url in urls if not url.startswith(UNIX_SCHEME)] if config.ui else []
    if pages:
        print(f"the page for browsers is {' and '.join(pages)}", flush=True)


def tell_reach(config: ServerConfig) -> None:
    """Print that anyone may do everything, if that is so."""
    if not config.auth:
        who = "on this machine" if is_loopback(config.host) else "who reaches this port"
        print(f"anyone {who} may read and publish everything; --auth FILE changes that", flush=True)
