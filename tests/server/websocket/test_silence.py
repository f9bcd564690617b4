"""How long the peer of a session may be silent, and which end its session takes then."""

from __future__ import annotations

import pytest
import trio
from trio_websocket import wrap_client_stream

from softstate.auth.revocations import subject_topic
from softstate.lease import GRACE
from softstate.server import ServerConfig
from softstate.server.websocket.silence import IDLE_LEASES, end_silent, silence_s_max
from softstate.session import Close, Effect, Send
from softstate.store.base import Write
from softstate.wire import CloseCode, encode_value
from softstate.wire.messages import Auth, Error, ServerBye
from tests.kit.node_rig import node, until
from tests.kit.rules_gate import RulesGate
from tests.kit.session_rig import SessionRig

CONFIG = ServerConfig(hello_s_max=3, reauth_s=7)


def told(effects: list[Effect]) -> list[object]:
    return [
        getattr(effect.message, "why", None) or type(effect.message) for effect in effects if isinstance(effect, Send)
    ]


def test_a_session_that_has_not_said_anything() -> None:
    machine = SessionRig().connect().machine
    assert silence_s_max(machine, CONFIG) == 3
    effects = list(end_silent(machine, CONFIG))
    assert told(effects) == [Error]
    assert effects[-1] == Close(CloseCode.SLOW_HELLO, "no hello within 3 s")


def test_a_session_with_a_lease() -> None:
    peer = SessionRig().open_session("a")
    assert peer.machine.lease is not None
    assert silence_s_max(peer.machine, CONFIG) == pytest.approx(IDLE_LEASES * peer.machine.lease.ttl_s * (1 + GRACE))
    effects = list(end_silent(peer.machine, CONFIG))
    assert told(effects) == [ServerBye]
    assert effects[-1] == Close(CloseCode.IDLE, "idle")


def test_a_session_whose_credentials_were_revoked() -> None:
    peer = SessionRig().open_session("a")
    peer.carry_out(peer.machine.revoked("denied", 0))
    assert silence_s_max(peer.machine, CONFIG) == 7
    effects = list(end_silent(peer.machine, CONFIG))
    assert told(effects) == ["revoked"]
    assert isinstance(effects[-1], Close)
    assert effects[-1].code == CloseCode.REVOKED


def test_a_session_that_has_presented_others_since() -> None:
    peer = SessionRig().open_session("a")
    peer.carry_out(peer.machine.revoked("denied", 0))
    peer.ask(Auth(1, "other"))
    assert silence_s_max(peer.machine, CONFIG) != 7


async def test_a_silent_session_is_closed_soon_after_its_credentials_were_revoked() -> None:
    """Its deadline was far away when they were: that of a lease that is not renewed."""
    rules = RulesGate()
    rules.issue("token", "u1")
    async with (
        node(parts={"authority": rules}, ttl_ms=60_000, hello_s_max=1.0, reauth_s=0.1) as running,
        await trio.open_tcp_stream("127.0.0.1", running.port) as stream,
        trio.open_nursery() as nursery,
    ):
        peer = await wrap_client_stream(nursery, stream, "localhost", "/v1/ws", subprotocols=["softstate.v1.json"])
        await peer.send_message('{"op":"hello","token":"token"}')
        await peer.get_message()
        (connection,) = running.node.sockets
        await until(lambda: connection._watch.at > trio.current_time() + 60)
        await running.store.publish([Write(subject_topic("issuer", "u1"), encode_value({}))])
        assert "denied" in str(await peer.get_message())
        assert "unauthenticated" in str(await peer.get_message())
        await until(lambda: not running.node.sockets)
        assert running.node.closes[CloseCode.REVOKED] == 1
