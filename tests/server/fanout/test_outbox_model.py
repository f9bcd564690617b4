"""Any order of queueing, dropping and writing, against a model without regard to speed and waiting."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings, strategies as st

from tests.kit.fake_socket import FakeSocket, frames_in, outbox, outbox_on, text

FIRST = -1
"""Key of a frame that was queued first, behind the anchor."""


class Model:
    """A model of the queue, byte by byte."""

    def __init__(self, pending_max: int, bytes_max: int) -> None:
        self.pending: list[tuple[str | int, bytes, bool]] = []
        self.front = self.rest = b""
        self.sent = self.replies = self.anchor = 0
        self.over = False
        self.stream = b""
        self._max, self._bytes_max = pending_max, bytes_max

    def notify(self, topic: str, data: bytes) -> None:
        if self.over:
            return
        for at, (key, _, _) in enumerate(self.pending):
            if key == topic:
                self.pending[at] = (topic, data, True)
                return
        self.pending.append((topic, data, True))
        self.sent += 1

    def reply(self, data: bytes, droppable: bool) -> None:
        self.replies += 1
        self.pending.append((self.replies, data, droppable))

    def first(self, data: bytes) -> None:
        keys = [key for key, _, _ in self.pending]
        if FIRST in keys:
            self.pending[keys.index(FIRST)] = (FIRST, data, False)
        elif self.anchor in keys:
            self.pending.insert(keys.index(self.anchor) + 1, (FIRST, data, False))
            self.front = b""
        else:
            self.front = data

    def drop(self) -> None:
        self.sent -= sum(isinstance(key, str) for key, _, _ in self.pending)
        self.pending = [entry for entry in self.pending if not entry[2]]
        self.over = False

    def wrote(self, stream: bytes) -> None:
        """Note all that the socket took so far: it must be what comes next in the queue."""
        new = stream[len(self.stream) :]
        self.stream = stream
        while new:
            if not self.rest:
                if self.front:
                    self.rest, self.front = self.front, b""
                else:
                    _, self.rest, _ = self.pending.pop(0)
            size = min(len(new), len(self.rest))
            assert new[:size] == self.rest[:size]
            new, self.rest = new[size:], self.rest[size:]

    def bound(self) -> None:
        if len(self.pending) > self._max or sum(len(data) for _, data, _ in self.pending) > self._bytes_max:
            self.over = True


SIZES = st.integers(1, 60)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("notify"), st.sampled_from("abcdefgh"), SIZES),
        st.tuples(st.just("reply"), st.booleans(), SIZES),
        st.tuples(st.just("welcome"), st.none(), SIZES),
        st.tuples(st.just("first"), st.none(), SIZES),
        st.tuples(st.just("flush"), st.none(), st.none()),
        st.tuples(st.just("drop"), st.none(), st.none()),
        st.tuples(st.just("take"), st.none(), st.one_of(st.integers(0, 20), st.integers(0, 300))),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
@example([("notify", "a", 60), ("flush", None, None), ("reply", True, 9), ("notify", "a", 5), ("drop", None, None)])
@example([*(("notify", topic, 60) for topic in "abcdefgh"), ("notify", "a", 1), ("take", None, 300)])
def test_any_interleaving_writes_what_the_model_says(steps: list[tuple[str, Any, Any]]) -> None:
    sock, model = FakeSocket(0), Model(5, 200)

    def overdue() -> None:
        model.wrote(bytes(sock.taken))
        assert model.over
        model.drop()
        box.drop()

    box = outbox_on(sock, pending_max=5, pending_bytes_max=200, overdue=overdue)
    for serial, (kind, what, size) in enumerate(steps, 1):
        name = f"{kind}{what}{serial}"
        match kind:
            case "notify":
                model.notify(what, text(name, size))
                box.notify(what, text(name, size))
            case "reply":
                model.reply(text(name, size), what)
                box.reply(text(name, size), droppable=what)
            case "welcome":
                model.reply(text(name, size), False)
                key = box.reply(text(name, size))
                if not model.anchor:
                    model.anchor, box.anchor = model.replies, key
            case "first":
                model.first(text(name, size))
                box.first(text(name, size))
            case "drop":
                model.drop()
                box.drop()
            case "flush":
                box.flush()
                assert not model.over
                pushes = [len(data) for key, data, _ in model.pending if isinstance(key, str)]
                assert len(pushes) <= 5
                assert sum(pushes) <= 200
            case "take":
                sock.allow(size)
        model.wrote(bytes(sock.taken))
        if kind in ("notify", "reply", "welcome") or (kind == "first" and not model.front):
            model.bound()
        assert box.sent == model.sent
        assert len(box) == len(model.pending) + bool(model.front) + bool(model.rest)
    box.flush()
    sock.allow()
    assert box.replies_taken()
    model.wrote(bytes(sock.taken))
    assert not model.pending
    frames = frames_in(model.stream)
    assert box.sent == sum(name.startswith("notify") for name in frames)
    assert (len(box), box.congested, box.dead) == (0, False, False)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_a_renewal_counts_the_pushes_ahead_of_it(steps: list[tuple[str, Any, Any]]) -> None:
    claims: dict[str, int] = {}
    latest: dict[str, str] = {}
    box, sock = outbox(0)
    for serial, (kind, what, size) in enumerate(steps):
        if kind == "notify":
            latest[what] = f"{what}{serial}"
            box.notify(what, text(latest[what], size))
        elif kind == "reply":
            claims[f"={serial}"] = box.sent
            box.reply(text(f"={serial}", size), droppable=True)
        elif kind == "drop":
            box.drop()
            latest.clear()
        elif kind == "take":
            sock.allow(size)
        box.flush()
    sock.allow()
    frames = frames_in(bytes(sock.taken))
    for at, name in enumerate(frames):
        if name in claims:
            assert claims[name] == sum(not other.startswith("=") for other in frames[:at])
    for topic, name in latest.items():
        assert [other for other in frames if other[0] == topic][-1] == name
