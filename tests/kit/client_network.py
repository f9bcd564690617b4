"""A network below a client's rig, whose nodes may refuse connections, and a client whose node was just killed."""

from __future__ import annotations

from typing import Any

from softstate.client.machine.events import (
    Connect,
    Connected,
    ConnectFailed,
    Lost,
    PublishAnswered,
    PublishRequested,
    RequestFailed,
    SendPoll,
    SendPublish,
    Ticked,
)
from softstate.wire.messages import BatchResult, RecoverAdvice
from tests.kit.machine_rig import RECOVER, URL, Rig, at

SPREAD_S = RECOVER.spread_ms / 1000


class Network:
    """Answers the dials of a rig: `down` URLs refuse, others accept, those of `polls_only` no WebSocket.

    Counts knocks by URL, with their times.
    """

    def __init__(self, rig: Rig, *down: str, polls_only: str = "") -> None:
        self.rig, self.down, self.polls_only = rig, set(down), polls_only
        self.knocks: list[tuple[float, str, str]] = []

    def run(self, seconds: float, until: str | None = None) -> None:
        """Let time pass, and fail or answer what the client sends."""
        rig, end = self.rig, self.rig.now + seconds
        self.answer(rig.last)
        while rig.mode != until and (due := rig.machine.deadline()) <= end:
            rig.now = max(rig.now, due)
            self.answer(rig.do(Ticked()))
        if until is None:
            rig.now = end

    def answer(self, actions: list[Any]) -> None:
        rig, todo = self.rig, list(actions)
        while todo:
            action = todo.pop(0)
            if isinstance(action, Connect | SendPoll | SendPublish):
                self.knocks.append((rig.now, type(action).__name__, action.url))
            match action:
                case Connect(conn=conn, url=url) if url in self.down:
                    todo += rig.do(ConnectFailed(conn, "refused", unsent=True))
                case Connect(conn=conn, url=url) if url == self.polls_only:
                    todo += rig.do(ConnectFailed(conn, "not found", 404))
                case Connect(conn=conn):
                    todo += rig.do(Connected(conn))
                    rig.arrive(rig.welcome())
                    todo += rig.arrive(rig.subscribed())
                case SendPoll(request=request, url=url) if url in self.down:
                    todo += rig.do(RequestFailed(request, "refused", unsent=True))
                case SendPoll():
                    todo += rig.do(rig.polled())
                case SendPublish(request=request, url=url) if url in self.down:
                    todo += rig.do(RequestFailed(request, "refused", unsent=True))
                case SendPublish(request=request):
                    todo += rig.do(PublishAnswered(request, [BatchResult("a", 11, at(11))]))
                case _:
                    pass

    def times(self, url: str = URL, *kinds: str) -> list[float]:
        return [now for now, kind, to in self.knocks if to == url and (not kinds or kind in kinds)]


def killed_node_rig(seed: int = 1, spread_s: float = SPREAD_S, **options: Any) -> Rig:
    """Return a client whose node has just been killed."""
    rig = Rig("a", seed=seed, **options)
    rig.greeted()
    rig.arrive(rig.welcome(recover=RecoverAdvice(int(spread_s * 1000), 500, 60_000)))
    rig.arrive(rig.subscribed())
    assert rig.mode == "live"
    rig.do(Lost(rig.conn, None, "killed"))
    return rig


def asked(ticket: int) -> PublishRequested:
    return PublishRequested(ticket, "a", ticket, deleted=False, expect=None, key=f"key-{ticket}")
