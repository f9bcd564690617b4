"""A line for each session, and for the end of its connection, with the reason."""

from __future__ import annotations

from typing import Any

import structlog.testing

import softstate
from tests.kit.node_rig import mode_is, node, until

SESSIONS = {"session begun", "session resumed", "connection ended"}


def of_sessions(logged: Any) -> list[dict[str, Any]]:
    return [dict(line) for line in logged if line["event"] in SESSIONS]


async def test_a_session_is_logged_with_its_peer_name_and_codec_and_the_reason_of_its_end() -> None:
    with structlog.testing.capture_logs() as logged:
        async with node(log_sessions=True) as running:
            async with softstate.connect(running.url, name="shop-7") as client:
                await mode_is(client, "live")
            await until(lambda: running.node.connections == 0)
    who = {"peer": "127.0.0.1", "name": "shop-7", "who": "anyone", "log_level": "info"}
    assert of_sessions(logged) == [
        {"event": "session begun", "codec": "softstate.v1.cbor", **who},
        {"event": "connection ended", "because": "draining", **who},
    ]


async def test_nothing_is_logged_of_sessions_by_default() -> None:
    with structlog.testing.capture_logs() as logged:
        async with node() as running, softstate.connect(running.url) as client:
            await mode_is(client, "live")
    assert not of_sessions(logged)
