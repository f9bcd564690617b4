"""How long the peer of a session may be silent, and which end its session takes then."""

from __future__ import annotations

import pytest

from softstate.lease import GRACE
from softstate.server import ServerConfig
from softstate.server.websocket.silence import IDLE_LEASES, end_silent, silence_s_max
from softstate.session import Close, Effect, Send
from softstate.wire import CloseCode
from softstate.wire.messages import Auth, Error, ServerBye
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
