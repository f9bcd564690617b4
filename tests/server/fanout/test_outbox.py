from __future__ import annotations

import pytest
import trio
import trio.testing

from softstate.model import Record
from softstate.server.fanout.outbox import RECEIVE_BYTES, WRITE_BYTES
from softstate.wire import CBOR
from softstate.wire.push import EncodedChange, PushBatch
from tests.kit.fake_socket import CLOSE, FakeSocket, frames_in, outbox, outbox_on, text

settled = trio.testing.wait_all_tasks_blocked


# Order and integrity -----------------------------------------------------------------------------------------------


async def test_a_turn_is_one_write() -> None:
    async with outbox() as (box, sock):
        box.reply(text("welcome"))
        for number in range(20):
            box.notify(f"t{number}", text(f"t{number}"))
        assert sock.writes == []
        box.flush()
        assert sock.writes == [len(sock.taken)]
        assert frames_in(sock.taken) == ["welcome", *(f"t{number}" for number in range(20))]
        assert (box.sent, len(box), box.congested) == (20, 0, False)
        box.flush()
        assert len(sock.writes) == 1


@pytest.mark.parametrize("pending_max", [1, 1_000])
async def test_a_batch_is_pushed_in_one_write_and_what_is_not_taken_waits(pending_max: int) -> None:
    changes = [EncodedChange(Record(f"t{number}", number, b"\x01")) for number in range(5)]
    batch = PushBatch(changes)
    data = batch.frames(CBOR)
    for room in range(len(data) + 1):
        over: list[int] = []
        async with outbox(room, pending_max=pending_max, overdue=lambda over=over: over.append(1)) as (box, sock):
            assert box.idle
            box.push(data, batch, CBOR)
            assert sock.writes == [room]
            assert (box.idle, box.congested) == (room == len(data), room < len(data))
            begun = sum(room > len(data) // 5 * number for number in range(5))
            if 5 - begun > pending_max:
                assert over == [1]
                box.drop()
            sock.allow()
            await settled()
            assert sock.taken == (data[: len(data) // 5 * begun] if over else data)
            assert (box.idle, box.sent) == (True, begun if over else 5)


async def test_a_batch_beyond_one_write_goes_out_in_several() -> None:
    batch = PushBatch(
        [EncodedChange(Record(f"t{number}", number, b"\x59\xff\xff" + bytes(65_535))) for number in range(4)]
    )
    async with outbox() as (box, sock):
        box.push(batch.frames(CBOR), batch, CBOR)
        assert sock.taken == batch.frames(CBOR)
        assert max(sock.writes) <= WRITE_BYTES
        assert (box.idle, box.sent) == (True, 4)


async def test_a_batch_for_a_peer_that_has_gone_ends_the_outbox() -> None:
    batch = PushBatch([EncodedChange(Record("t", 1, b"\x01"))])
    async with outbox() as (box, sock):
        sock.snap()
        box.push(batch.frames(CBOR), batch, CBOR)
        assert (box.dead, box.idle) == (True, False)


async def test_an_outbox_is_idle_when_nothing_waits_and_it_may_be_written_to() -> None:
    async with outbox(room=0) as (box, sock):
        seen = [("new", box.idle)]
        box.reply(text("r"))
        seen.append(("a reply waits", box.idle))
        box.flush()
        seen.append(("congested", box.idle))
        sock.allow()
        await settled()
        seen.append(("drained", box.idle))
        box.first(text("f"))
        seen.append(("a position waits", box.idle))
        box.flush()
        seen.append(("written", box.idle))
        box.notify("t", text("t"))
        seen.append(("a push waits", box.idle))
        box.drop()
        box.flush()
        seen.append(("dropped", box.idle))
        await box.send_all(CLOSE)
        seen.append(("closing", box.idle))
    assert [what for what, idle in seen if idle] == ["new", "drained", "written", "dropped"]


async def test_one_write_is_offered_no_more_than_its_limit_unless_a_single_frame_is_larger() -> None:
    async with outbox() as (box, sock):
        box.notify("a", text("a", WRITE_BYTES // 2))
        box.notify("b", text("b", WRITE_BYTES // 2))
        box.notify("c", text("c", WRITE_BYTES * 2))
        box.flush()
        assert frames_in(sock.taken) == ["a", "b", "c"]
        assert [size // WRITE_BYTES for size in sock.writes] == [0, 0, 2]


@pytest.mark.parametrize("step", [1, 3, 1_000])
async def test_no_byte_boundary_tears_a_frame_or_loses_a_place(step: int) -> None:
    whole = sum(map(len, (text("first"), text("a1"), text("reply"), text("b1"))))
    for room in range(whole + 1):
        async with outbox(room) as (box, sock):
            box.notify("a", text("a1"))
            box.reply(text("reply"))
            box.notify("b", text("b1"))
            box.first(text("first"))
            box.flush()
            assert len(sock.taken) == room
            assert box.congested == (room < whole)
            box.notify("a", text("a2"))
            box.notify("b", text("b2"))
            box.flush()
            while box.congested:
                sock.allow(step)
                await settled()
            begun_a, begun_b = room > len(text("first")), room > whole - len(text("b1"))
            assert frames_in(sock.taken) == [
                "first", *(["a1"] if begun_a else ["a2"]), "reply", *(["b1"] if begun_b else ["b2"]),
                *(["a2"] if begun_a else []), *(["b2"] if begun_b else []),
            ]  # fmt: skip
            assert (len(box), box.sent) == (0, 2 + begun_a + begun_b)


async def test_a_frame_queued_first_replaces_an_older_one_and_waits_only_for_a_half_written_one() -> None:
    async with outbox(5) as (box, sock):
        box.notify("a", text("begun"))
        box.notify("b", text("waiting"))
        box.flush()
        box.first(text("older"))
        box.first(text("newer"))
        assert len(box) == 3
        sock.allow()
        await box.written()
        assert frames_in(sock.taken) == ["begun", "newer", "waiting"]


async def test_a_frame_queued_first_may_be_written_in_two_parts() -> None:
    async with outbox(3) as (box, sock):
        box.first(text("front"))
        box.flush()
        box.first(text("next"))
        sock.allow()
        await box.written()
        assert frames_in(sock.taken) == ["front", "next"]


async def test_nothing_goes_ahead_of_the_anchor() -> None:
    async with outbox(2) as (box, sock):
        box.notify("a", text("begun"))
        box.anchor = box.reply(text("welcome"))
        box.notify("b", text("b"))
        box.flush()
        box.first(text("position"))
        box.notify("b", text("b2"))
        assert (len(box), box.sent) == (4, 2)
        sock.allow()
        await box.written()
        assert frames_in(sock.taken) == ["begun", "welcome", "position", "b2"]
        box.first(text("later"))
        box.flush()
        assert frames_in(sock.taken)[-1] == "later"


# Dropping and bounds -----------------------------------------------------------------------------------------------


async def test_dropping_keeps_a_half_written_frame_and_replies_that_need_no_lease() -> None:
    async with outbox(4) as (box, sock):
        box.notify("a", text("a"))
        box.notify("b", text("begun"))
        box.notify("c", text("c"))
        box.reply(text("renewed"), droppable=True)
        box.reply(text("published"))
        box.flush()
        assert (box.sent, len(box)) == (3, 5 - 1)
        box.drop()
        assert (box.sent, len(box)) == (2, 2)
        box.drop()
        assert (box.sent, len(box)) == (2, 2)
        sock.allow()
        await box.written()
        assert frames_in(sock.taken) == ["a", "begun", "published"]


async def test_dropping_wakes_tasks_that_waited_for_the_replies_dropped() -> None:
    async with outbox(0) as (box, _), trio.open_nursery() as nursery:
        box.reply(text("renewed"), droppable=True)
        box.flush()
        nursery.start_soon(box.replies_taken)
        await settled()
        assert nursery.child_tasks
        box.drop()
        await settled()
        assert not nursery.child_tasks


async def test_a_burst_beyond_the_bounds_is_nothing_to_a_healthy_connection() -> None:
    async with outbox(pending_max=10, pending_bytes_max=100) as (box, sock):
        for number in range(1_000):
            box.notify(f"t{number}", text(f"t{number}"))
            box.reply(text(f"r{number}"))
            assert len(box) <= 10
        box.flush()
        assert len(frames_in(sock.taken)) == 2_000
        assert not box.congested


@pytest.mark.parametrize("entries", [3, 4])
async def test_more_entries_than_the_bound_are_overdue_once_and_drop(entries: int) -> None:
    calls: list[int] = []
    async with outbox(0, pending_max=3, overdue=lambda: calls.append(1)) as (box, sock):
        for number in range(entries):
            box.notify(f"t{number}", text(f"t{number}"))
        assert calls == []
        box.notify("t0", text("newer"))
        box.flush()
        box.flush()
        assert len(calls) == (entries > 3)
        box.drop()
        box.notify("again", text("again"))
        sock.allow()
        await box.written()
        assert frames_in(sock.taken) == ["again"]
        assert box.sent == 1


async def test_bytes_are_bounded_also_when_pushes_are_replaced_by_larger_ones() -> None:
    calls: list[int] = []
    async with outbox(0, pending_bytes_max=500, overdue=lambda: calls.append(1)) as (box, _):
        for topic in "abcde":
            box.notify(topic, text(topic, 98))
        box.flush()
        assert calls == []
        box.notify("c", text("c", 99))
        assert len(box) == 5
        box.flush()
        assert calls == [1]


async def test_replies_count_as_pending_but_are_never_refused() -> None:
    calls: list[int] = []
    async with outbox(0, pending_max=2, overdue=lambda: calls.append(1)) as (box, sock):
        for number in range(4):
            box.reply(text(f"r{number}"))
            box.flush()
        assert calls == [1, 1]
        sock.allow()
        await box.written()
        assert frames_in(sock.taken) == ["r0", "r1", "r2", "r3"]


async def test_an_owner_without_a_lease_is_pushed_to_again_when_it_has_one() -> None:
    """Nothing is dropped if replies alone are overdue; pushes queued later must not vanish because of that."""
    async with outbox(0, pending_max=2, overdue=lambda: None) as (box, sock):
        for number in range(3):
            box.reply(text(f"r{number}"))
        box.flush()
        sock.allow(12)
        await settled()
        box.notify("topic", text("pushed"))
        sock.allow()
        await box.written()
        assert frames_in(sock.taken) == ["r0", "r1", "r2", "pushed"]
        assert box.sent == 1


async def test_congested_for_too_long_is_overdue_again_and_again(autojump_clock: trio.testing.MockClock) -> None:
    calls: list[float] = []

    def overdue() -> None:
        calls.append(trio.current_time() - began)
        box.drop()
        box.reply(text(f"revoked{len(calls)}"))
        box.flush()

    async with outbox(3, congested_s_max=10, overdue=overdue) as (box, sock):
        began = trio.current_time()
        box.notify("a", text("begun"))
        box.notify("b", text("dropped"))
        box.flush()
        await trio.sleep(9.99)
        assert calls == []
        await trio.sleep(15)
        assert calls == [10, 20]
        sock.allow()
        await box.written()
        await trio.sleep(100)
        assert calls == [10, 20]
        assert frames_in(sock.taken) == ["begun", "revoked1", "revoked2"]


async def test_congested_twice_for_half_as_long_is_not_overdue(autojump_clock: trio.testing.MockClock) -> None:
    async with outbox(0, congested_s_max=10) as (box, sock):
        for _ in range(3):
            box.notify("a", text("a"))
            box.flush()
            await trio.sleep(7)
            sock.allow(len(text("a")))
            await settled()
            assert not box.congested
        assert frames_in(sock.taken) == ["a"] * 3


async def test_closed_while_congested_is_not_overdue(autojump_clock: trio.testing.MockClock) -> None:
    """A socket that does not wake its waiter on close: the deadline comes, and finds nothing to do."""
    async with outbox(0, congested_s_max=10) as (box, sock):
        box.notify("a", text("a"))
        box.flush()
        await settled()
        box._die()
        await trio.sleep(11)
        assert (box.dead, box.congested, sock.taken) == (True, False, bytearray())


# The end of a connection -------------------------------------------------------------------------------------------


async def test_a_broken_socket_ends_every_wait_and_takes_nothing_more() -> None:
    async with outbox(1) as (box, sock), trio.open_nursery() as nursery:
        box.notify("a", text("a"))
        box.reply(text("b"))
        box.flush()
        nursery.start_soon(box.written)
        nursery.start_soon(box.replies_taken)

        async def send() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await box.send_all(text("c"))

        nursery.start_soon(send)
        await settled()
        assert len(nursery.child_tasks) == 3
        sock.snap()
        await settled()
        assert not nursery.child_tasks
        assert (box.dead, box.congested, len(box)) == (True, False, 0)
        box.notify("a", text("a"))
        box.reply(text("b"))
        box.first(text("c"))
        box.flush()
        assert len(box) == 0
        with pytest.raises(trio.BrokenResourceError):
            await box.send_all(b"x")


async def test_a_socket_that_breaks_at_a_push_is_noticed_at_once() -> None:
    async with outbox() as (box, sock):
        sock.snap()
        box.notify("a", text("a"))
        box.flush()
        assert box.dead
        with pytest.raises(trio.BrokenResourceError):
            await box.send_all(b"x")


async def test_a_socket_that_breaks_in_send_all_is_told_to_its_caller() -> None:
    async with outbox() as (box, sock):
        sock.snap()
        with pytest.raises(trio.BrokenResourceError):
            await box.send_all(b"x")


async def test_an_outbox_whose_nursery_was_cancelled_is_dead() -> None:
    sock = FakeSocket(0)
    async with trio.open_nursery() as nursery:
        idle, waiting = outbox_on(sock, nursery), outbox_on(FakeSocket(0), nursery)
        waiting.notify("a", text("a"))
        waiting.flush()
        await settled()
        nursery.cancel_scope.cancel()
    assert waiting.dead
    idle.notify("a", text("a"))
    idle.flush()
    assert (idle.dead, idle.congested, len(idle)) == (True, False, 0)


async def test_nothing_follows_a_close_frame() -> None:
    async with outbox(0) as (box, sock), trio.open_nursery() as nursery:
        box.notify("a", text("a"))
        nursery.start_soon(box.send_all, CLOSE)
        await settled()
        box.notify("b", text("b"))
        box.first(text("position"))
        box.reply(text("reply"))
        await box.send_all(b"")
        nursery.start_soon(box.send_all, text("pong"))
        sock.allow()
    assert frames_in(bytes(sock.taken)) == ["a", ""]


async def test_closing_loses_what_waits_and_closes_the_socket() -> None:
    async with outbox(1) as (box, sock):
        box.notify("a", text("a"))
        box.flush()
        await settled()
        await box.aclose()
        await settled()
        assert sock.closed
        assert (box.dead, len(box), bytes(sock.taken)) == (True, 0, text("a")[:1])


# The stream --------------------------------------------------------------------------------------------------------


async def test_send_all_returns_when_its_own_bytes_are_written_not_when_nothing_waits() -> None:
    async with outbox(0) as (box, sock), trio.open_nursery() as nursery:
        nursery.start_soon(box.send_all, text("pong"))
        await settled()
        box.notify("a", text("a"))
        box.flush()
        sock.allow(1)
        await settled()
        assert nursery.child_tasks
        sock.allow(len(text("pong")))
        await settled()
        assert not nursery.child_tasks
        assert len(box) == 1
        assert box.congested


async def test_cancelled_send_all_leaves_nothing_torn() -> None:
    data = text("pong")
    for room in range(len(data)):
        async with outbox(room) as (box, sock):
            with trio.move_on_after(0) as scope:
                await box.send_all(text("never"))
            assert scope.cancelled_caught
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(box.send_all, data)
                    await settled()
                    scope.cancel()
            box.notify("a", text("a"))
            sock.allow()
            await box.written()
            assert frames_in(sock.taken) == ["pong", "a"]


async def test_written_flushes_first_and_might_not_block_waits_as_well() -> None:
    async with outbox(0) as (box, sock), trio.open_nursery() as nursery:
        box.reply(text("bye"))
        nursery.start_soon(box.written)
        nursery.start_soon(box.wait_send_all_might_not_block)
        await settled()
        assert len(nursery.child_tasks) == 2
        sock.allow(3)
        await settled()
        assert len(nursery.child_tasks) == 2
        sock.allow()
        await settled()
        assert not nursery.child_tasks


async def test_a_half_written_reply_still_holds_up_the_reader() -> None:
    async with outbox(2) as (box, sock), trio.open_nursery() as nursery:
        box.reply(text("polled", 50))
        box.notify("a", text("a"))
        box.flush()
        nursery.start_soon(box.replies_taken)
        sock.allow(10)
        await settled()
        assert nursery.child_tasks
        sock.allow(42)
        await settled()
        assert not nursery.child_tasks
        assert box.congested


async def test_bytes_received_before_are_received_first() -> None:
    async with outbox(before=b"GET / HTTP") as (box, _):
        assert await box.receive_some(4) == b"GET "
        assert await box.receive_some() == b"/ HTTP"
        assert await box.receive_some(2) == b"he"
        assert await box.receive_some() == b" world"
    assert RECEIVE_BYTES >= 1_024
