"""The outbox of a connection that loses names: what goes ahead, and what is dropped (P-AUTH-5)."""

from __future__ import annotations

import pytest

from tests.kit.fake_socket import frames_in, outbox, text


@pytest.mark.parametrize("anchored", [True, False])
def test_a_reply_ahead_waits_for_the_anchor_alone(anchored: bool) -> None:
    box, sock = outbox(free_bytes=0)
    if anchored:
        box.anchor = box.reply(text("welcome"))
    box.flush()
    box.notify("a", text("a"))
    box.reply(text("renewed"))
    box.ahead(text("denied"))
    box.ahead(text("denied too"))
    box.flush()
    sock.allow()
    assert frames_in(sock.taken) == [*(["welcome"] if anchored else []), "denied too", "denied", "a", "renewed"]
    assert box.replies_taken()


def test_a_reply_ahead_waits_for_a_half_written_frame_and_holds_up_the_reader() -> None:
    box, sock = outbox(free_bytes=1)
    box.notify("a", text("a"))
    box.flush()
    box.notify("b", text("b"))
    box.ahead(text("denied"))
    assert not box.replies_taken()
    sock.allow()
    assert frames_in(sock.taken) == ["a", "denied", "b"]
    box.end()
    box.ahead(text("late"))
    assert len(box) == 0


def test_pushes_that_are_not_kept_are_discarded_with_the_beat_that_counts_them() -> None:
    box, sock = outbox(free_bytes=1)
    box.notify("begun", text("begun"))
    box.flush()
    for topic in ("a", "b", "c"):
        box.notify(topic, text(topic))
    box.beat(text("beat"))
    box.reply(text("published"))
    box.discard(lambda topic: topic == "b")
    assert box.sent == 2
    sock.allow()
    assert frames_in(sock.taken) == ["begun", "b", "published"]
    box.notify("c", text("c2"))
    box.flush()
    assert box.sent == 3
