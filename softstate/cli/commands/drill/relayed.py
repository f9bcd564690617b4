"""How the clients of a drill reach its nodes, under either loop: through relays, and with a token."""

from __future__ import annotations

import ssl
from pathlib import Path

from softstate.cli.commands.drill.certificate import opener, trusting
from softstate.cli.commands.drill.plan import token_of
from softstate.cli.commands.drill.reports import WorkerPlan
from softstate.client.tokens import TokenProvider
from softstate.http_client.streams import OpenStream, Stream, open_secured


def opener_of(plan: WorkerPlan) -> OpenStream:
    """Return what opens streams through the relays of a plan; to a node without one, directly."""
    trusted = trusting(plan.ca)
    directly = opener(trusted)

    async def open_stream(host: str, port: int, tls: bool) -> Stream:
        relay = plan.via.get(f"{host}:{port}")
        if relay is None:
            return await directly(host, port, tls)
        context = (trusted or ssl.create_default_context()) if tls else None
        return await open_secured("127.0.0.1", relay, context, host)

    return open_stream


def token_for(plan: WorkerPlan) -> str | TokenProvider | None:
    """Return what the clients of a plan present. Raises `softstate.ConfigError` if there is nothing in its file."""
    return token_of(Path(plan.token_file) if plan.token_file else None)


def names_of(plan: WorkerPlan, number: int) -> list[str]:
    """Return what a client subscribes to: its first topic, and the prefixes of the others."""
    first, *others = (plan.topics[topic] for topic in plan.follows[number])
    return [first, *(other.rpartition("/")[0] + "/" for other in others)]
