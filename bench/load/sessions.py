"""Many sessions in one process: they open, renew, stay idle and leave, over raw sockets and epoll.

``python -m bench.load.sessions``, driven over `bench.load.process`. Frames are counted, and only decoded for the first
session of each `open`, whose answers' sizes are returned so that a bare server can answer with as many bytes. Messages
are the same bytes for all sessions, except for one topic that each session has to itself.
"""

from __future__ import annotations

import heapq
import select
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

from bench.load.frames import client_frame, take_frames, upgrade
from bench.load.process import LoadFailed, serve
from softstate.wire import CBOR, messages
from softstate.wire.subscription_digest import digest_of, digest_text

EVENTS_MAX = 64
RECEIVE_BYTES = 64 * 1024
UNDER_WAY_MAX = 64
"""Handshakes under way at once: enough that the server never waits for the generator, and few enough to shed none."""
RENEWING_MAX = 1_024
"""Renewals under way at once: a node batches them for 40 ms, so with few the bench would measure that delay."""
ANSWER_S_MAX = 30.0
JITTER = 0.2
"""Fraction by which the interval of an idle session's renewals varies either way, as the client's does."""

UPGRADE = upgrade("/v1/ws", CBOR.protocol)
HELLO = client_frame(CBOR.encode(messages.Hello()))
BYE = client_frame(CBOR.encode(messages.ClientBye()))


def own_topic(number: int) -> str:
    """Return the topic that only session `number` subscribes to."""
    return f"inbox/{number:06}"


def shared_topics(count: int) -> list[str]:
    """Return topics that all sessions subscribe to."""
    return [f"shared/{number:02}" for number in range(count)]


class Session:
    """One connection. `stage` counts the steps of its handshake, `frames` the answers that are still missing."""

    __slots__ = ("data", "fd", "frames", "number", "renewal", "sizes", "socket", "stage")

    def __init__(self, number: int, opened: socket.socket) -> None:
        self.number = number
        self.socket = opened
        self.fd = opened.fileno()
        self.data = b""
        self.stage = 0
        self.frames = 0
        self.renewal = b""
        self.sizes: list[int] | None = None
        """Payload sizes of the answers, if this session's answers are decoded."""


class Sessions:
    """The sessions at one server. Each public method is a command of the process."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sessions: dict[int, Session] = {}
        self._port = 0
        self._number = 0
        self._shared: list[str] = []
        self._renew_s = 0.0
        self._hello = HELLO
        self._tokens: Iterator[str] | None = None
        self._random = Random(1)

    # Commands -------------------------------------------------------------------------------------------------------

    def open(
        self, port: int, connections: int, subscriptions: int, beat_ms: int = 0, tokens: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Open more sessions: upgrade, then `hello` and `subscribe` in one write, until both are answered.

        One of the subscriptions is the session's own, the others are shared by all sessions. With `beat_ms` they ask
        for beats, and can do nothing but idle: beats are not told from answers. With `tokens`, each session presents
        one of its own.
        """
        self._tokens = iter(tokens) if tokens else None
        self._hello = client_frame(CBOR.encode(messages.Hello(beat_ms=beat_ms))) if beat_ms else HELLO
        self._port = port
        self._shared = shared_topics(subscriptions - 1)
        cpu, began = time.process_time(), time.monotonic()
        sizes: list[int] = []
        opened = answered = 0
        while answered < connections:
            while opened < connections and opened - answered < UNDER_WAY_MAX:
                session = self._connect()
                session.sizes = sizes if opened == 0 else None
                opened += 1
            answered += len(self._turn(ANSWER_S_MAX))
        cost = {"open_s": time.monotonic() - began, "generator_cpu_s": time.process_time() - cpu}
        return {"sessions": len(self._sessions), "sizes": sizes, **cost}

    def renew(self, times: int) -> dict[str, Any]:
        """Renew every session `times` times, `RENEWING_MAX` at once."""
        cpu, began = time.process_time(), time.monotonic()
        sizes: list[int] = []
        all_sessions = list(self._sessions.values())
        all_sessions[0].sizes = sizes
        for _ in range(times):
            waiting = iter(all_sessions)
            under_way = self._renew(waiting, RENEWING_MAX)
            while under_way:
                answered = len(self._turn(ANSWER_S_MAX))
                under_way += self._renew(waiting, answered) - answered
        all_sessions[0].sizes = None
        renew_s = time.monotonic() - began
        cost = {"renew_s": renew_s, "generator_cpu_s": time.process_time() - cpu}
        return {"renewals": times * len(all_sessions), "sizes": sizes[:1], **cost}

    def keep_renewing(self, seconds: float) -> dict[str, Any]:
        """Renew each session again as soon as it is answered, for some seconds, then wait for the last answers."""
        cpu, began = time.process_time(), time.monotonic()
        all_sessions = list(self._sessions.values())
        all_sessions[0].sizes = []  # so that its answers are checked
        under_way = self._renew(all_sessions, len(all_sessions))
        renewals = 0
        while under_way:
            answered = self._turn(ANSWER_S_MAX)
            renewals += len(answered)
            under_way -= len(answered)
            if answered and time.monotonic() - began < seconds:
                under_way += self._renew(answered, len(answered))
        all_sessions[0].sizes = None
        cost = {"renew_s": time.monotonic() - began, "generator_cpu_s": time.process_time() - cpu}
        return {"renewals": renewals, **cost}

    def idle(self, seconds: float, renew_s: float) -> dict[str, Any]:
        """Only renew, each session every `renew_s` (plus or minus `JITTER`; 0: never), for some seconds."""
        now = time.monotonic()
        ends = now + seconds
        cpu = time.process_time()
        due: list[tuple[float, int]] = []
        if renew_s:
            due = [(now + self._random.uniform(0, renew_s), fd) for fd in self._sessions]
            heapq.heapify(due)
        renewals = 0
        while now < ends:
            while due and due[0][0] <= now:
                at, fd = due[0]
                heapq.heapreplace(due, (at + renew_s * self._random.uniform(1 - JITTER, 1 + JITTER), fd))
                renewals += self._renew(iter([self._sessions[fd]]), 1)
            self._turn(min(ends, due[0][0] if due else ends) - now, quiet=True)
            now = time.monotonic()
        return {"renewals": renewals, "generator_cpu_s": time.process_time() - cpu}

    def leave(self) -> dict[str, Any]:
        """Send `bye` on all connections, and close each when the server has closed its side."""
        left = list(self._sessions.values())
        for session in left:
            session.socket.setblocking(True)
            session.socket.settimeout(ANSWER_S_MAX)
            session.socket.sendall(BYE)
            session.socket.shutdown(socket.SHUT_WR)
        for session in left:
            while session.socket.recv(RECEIVE_BYTES):
                pass
            self._epoll.unregister(session.fd)
            session.socket.close()
        self._sessions.clear()
        return {}

    # Inside ---------------------------------------------------------------------------------------------------------

    def _connect(self) -> Session:
        opened = socket.create_connection(("127.0.0.1", self._port), timeout=ANSWER_S_MAX)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.sendall(UPGRADE)
        opened.setblocking(False)
        session = Session(self._number, opened)
        self._number += 1
        self._sessions[session.fd] = session
        self._epoll.register(session.fd, select.EPOLLIN)
        return session

    def _renew(self, sessions: Iterable[Session], count: int) -> int:
        """Renew the next `count` sessions; return their number."""
        asked = 0
        for session in sessions:
            session.socket.send(session.renewal)
            session.frames = 1
            asked += 1
            if asked == count:
                break
        return asked

    def _turn(self, timeout_s: float, *, quiet: bool = False) -> list[Session]:
        """Wait for sessions that receive; return those that now have all answers. Unless `quiet`, raise on timeout."""
        events = self._epoll.poll(max(timeout_s, 0.0), EVENTS_MAX)
        if not events and not quiet:
            raise LoadFailed(f"no answer within {timeout_s:g} s")
        done = []
        for fd, _ in events:
            session = self._sessions[fd]
            data = session.socket.recv(RECEIVE_BYTES)
            if not data:
                raise LoadFailed("the server closed a connection")
            if self._took(session, data):
                done.append(session)
        return done

    def _took(self, session: Session, data: bytes) -> bool:
        data = session.data + data if session.data else data
        if session.stage == 0:
            if b"\r\n\r\n" not in data:
                session.data = data
                return False
            if not data.startswith(b"HTTP/1.1 101"):
                raise LoadFailed(f"handshake refused: {data.partition(chr(13).encode())[0].decode('latin-1')}")
            session.data = b""
            self._begin(session)
            return False
        payloads, session.data = take_frames(data)
        session.frames -= len(payloads)
        if session.sizes is not None:
            session.sizes += map(len, payloads)
            self._check(payloads)
        return session.frames == 0 and bool(payloads)

    def _begin(self, session: Session) -> None:
        topics = dict.fromkeys([own_topic(session.number), *self._shared], 0)
        session.stage, session.frames = 1, 2
        hello = self._hello
        if self._tokens is not None:
            hello = client_frame(CBOR.encode(messages.Hello(token=next(self._tokens))))
        session.socket.send(hello + client_frame(CBOR.encode(messages.Subscribe(1, topics))))
        renewal = messages.Renew(2, digest_text(digest_of(topics)), len(topics))
        session.renewal = client_frame(CBOR.encode(renewal))

    def _check(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            if set(payload) == {ord("r")}:
                continue  # from a bare server
            message = CBOR.server_message(payload)
            match message:
                case (
                    messages.Welcome()
                    | messages.Subscribed(more=False, denied=[])
                    | messages.Renewed(match=True, store="ok")
                ):
                    pass
                case messages.Beat(sent=0):
                    pass
                case _:
                    raise LoadFailed(f"unexpected message: {message}")


def main() -> None:
    """Serve commands until the parent ends."""
    sessions = Sessions()
    serve({
        "open": sessions.open, "renew": sessions.renew, "keep_renewing": sessions.keep_renewing, "idle": sessions.idle,
        "leave": sessions.leave,
    })  # fmt: skip


if __name__ == "__main__":
    main()
