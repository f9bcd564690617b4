"""The measured work of a connection: without the time in which others work."""

from __future__ import annotations

from softstate.auth.answers import Unasked
from softstate.server.websocket.measuring import after_effects
from softstate.session import Inquire, MeasuredRequest, ReadHead, ServiceRate


def test_to_wait_for_another_program_is_no_work() -> None:
    charged = []
    for effect in (ReadHead(1), Inquire(1, Unasked("token"))):
        rate = ServiceRate()
        measured = MeasuredRequest(rate)
        measured.works(0.0)
        assert after_effects(measured, [effect], 1.0) is measured
        measured.waits(3.0)
        charged.append(measured._charge)
    assert charged[0] > charged[1] > 0
