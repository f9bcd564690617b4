"""Running a node as a server: its store is opened, its port bound, and both are closed in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from softstate.auth.open_authority import EVERYBODY_MAY_ALL
from softstate.errors import ConfigError
from softstate.server.bulkhead import Bulkhead
from softstate.server.certificates import CertificateKeeper, files_of
from softstate.server.clock import node_clock
from softstate.server.config import ServerConfig
from softstate.server.config.server_config import FILE_KEYS
from softstate.server.descriptors import fit_connections, raise_limit
from softstate.server.listeners import bind, close, listen, name_of
from softstate.server.memory.system import default_max
from softstate.server.node import Node
from softstate.server.siblings import Siblings
from softstate.server.storage.follower import first_position
from softstate.store import Store, open_store
from softstate.store.base import LASTING

if TYPE_CHECKING:
    from softstate.server.auth.keeper import PolicyKeeper


async def serve(
    config: ServerConfig,
    *,
    shared: bool = False,
    siblings: Siblings | None = None,
    task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Open the store, listen, and serve until drained; `task_status.started` gets the `Node` once it listens.

    A `shared` port is one that several nodes of this host listen on; `siblings` are those of which a scrape tells.
    Raises `ConfigError` (also when the store is not as durable as required), `StoreRefused` or `Unavailable` before it
    listens, each saying what to do.
    """
    config = fit_connections(config.check(), raise_limit())
    config = replace(config, memory_max=config.memory_max or default_max())
    now, bulkhead = node_clock(), Bulkhead()
    keeper, files = _keeper(config, now, bulkhead), files_of(config)
    certificate = None if files is None else CertificateKeeper(files, bulkhead, now=now)
    bound = await bind(config.host, config.port, shared=shared)
    try:
        store = await open_store(
            config.store,
            keys_max=config.keys_max,
            publishers_max=config.publishers_max,
            create=not config.require_store,
            backup=not config.no_backup,
        )
        try:
            position = await first_position(store)
            _check_durable(config, store)
            authority = EVERYBODY_MAY_ALL if keeper is None else keeper.authority
            node = Node(
                config,
                store,
                position,
                now=now,
                bulkhead=bulkhead,
                authority=authority,
                certificate=certificate,
                siblings=siblings,
            )
            node.addresses += map(name_of, bound)
            if keeper is not None:
                node.reloads.append(keeper.reload_soon)
            async with _kept(keeper, certificate):
                listeners = listen(bound, config.host, config.port)
                await node.run(listeners, started=partial(task_status.started, node))
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + config.store_s_max):
                await store.aclose()
    finally:
        close(bound)


def _keeper(config: ServerConfig, now: Callable[[], float], bulkhead: Bulkhead) -> PolicyKeeper | None:
    """Return the keeper of the policy file, None if there is none. Raises `ConfigError`."""
    if not config.auth:
        return None
    from softstate.server.auth.keeper import PolicyKeeper  # noqa: PLC0415 - with an HTTP client, for keys

    return PolicyKeeper(Path(config.auth), now, bulkhead, beside=FILE_KEYS if config.auth_in_config else ())


@asynccontextmanager
async def _kept(keeper: PolicyKeeper | None, certificate: CertificateKeeper | None) -> AsyncIterator[None]:
    """Keep rules, keys and certificate up to date in this block, which begins once keys were asked for."""
    async with trio.open_nursery() as nursery:
        if keeper is not None:
            await nursery.start(keeper.run)
        if certificate is not None:
            nursery.start_soon(certificate.run)
        yield
        nursery.cancel_scope.cancel()


def _check_durable(config: ServerConfig, store: Store) -> None:
    if config.require_durable and store.durability not in LASTING:
        raise ConfigError(
            f"require_durable: the store {store.name} is {store.durability}, so acknowledged publishes may be lost:"
            f" {'; '.join(store.warnings) or 'choose another with --store'}"
        )
