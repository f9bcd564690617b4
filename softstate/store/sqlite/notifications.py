"""Learning of other processes' commits: inotify(7) tells when one writes to the log, and costs nothing until then.

To wake up fifty times a second and look at the files cost an idle node 2 % of a core: little of it is the looking, most
a turn of the loop whose caches have gone cold. A notification is a hint only. A commit is written to the log first, and
can be seen only once that is synced, of which nothing tells; so what is written is a reason to look at the database for
a while (`Looks`), and one look a second in any case is the remedy for all that was not heard.

Where there is no inotify (macOS), or no more of it (``fs.inotify.max_user_instances``), or it is found not to tell of
commits, the files are looked at every `WATCH_S` instead.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from softstate.store.limits import CHECK_EVERY_S
from softstate.store.sqlite.place import Stamp, stamp_of

WATCH_S = 0.02
"""How late another process's commit is noticed at most, in seconds, from when it can be seen.

If its disk takes longer than `CHECK_EVERY_S` to sync it, or if it was written in the microseconds between the end of a
commit of this process and the note that all up to there was its own, it is noticed after `CHECK_EVERY_S`."""

FIRST_LOOK_S = 0.001
"""The pause before the second look after something was written, in seconds; it doubles up to `WATCH_S`."""

UNHEARD_MAX = 3
"""Commits in a row that were found without a notification; then inotify is not trusted until the store is reopened."""

_GONE = 0x4 | 0x400 | 0x800  # IN_ATTRIB (of which the last link is one), IN_DELETE_SELF, IN_MOVE_SELF
_WRITTEN = 0x2 | _GONE  # IN_MODIFY
_READ_BYTES = 65_536


class _Inotify:
    """An inotify descriptor within an epoll, so that a thread can keep it from waking the loop. Raises `OSError`."""

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._watched: set[int] = set()
        self.epoll = select.epoll()
        self.epoll.register(self._descriptor, select.EPOLLIN)

    def follow(self, masks: dict[str, int]) -> None:
        """Listen to these files, and to no others."""
        watched = {
            self._checked(self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask))
            for path, mask in masks.items()
        }
        for old in self._watched - watched:
            self._libc.inotify_rm_watch(self._descriptor, old)  # fails if the file is gone
        self._watched = watched

    def take(self) -> bool:
        """Take all notifications; return whether there were any."""
        try:
            return bool(os.read(self._descriptor, _READ_BYTES))
        except BlockingIOError:
            return False

    def mute(self, *, muted: bool) -> None:
        """Keep notifications from waking the loop; they stay until they are taken."""
        self.epoll.modify(self._descriptor, 0 if muted else select.EPOLLIN)

    def close(self) -> None:
        trio.lowlevel.notify_closing(self.epoll)
        self.epoll.close()
        os.close(self._descriptor)

    def _checked(self, result: int) -> int:
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result


class FileNotifications:
    """Tells of writes to a database's files by other processes. For the loop, but for `own`, which is for the writer.

    `polls`: nothing tells, and `written` is to be asked every `WATCH_S`.
    """

    def __init__(self) -> None:
        self.polls = False
        self._inotify: _Inotify | None = None
        self._paths: Sequence[str] = ()
        self._opening: int | None = None
        self._unheard = 0
        self.doubtful = False
        """Whether something may have been written of which nothing told."""
        self._stamp: Stamp | None = None
        self._waiting = False

    def follow(self, opening: int, path: str, log_path: str) -> None:
        """Listen to the files that SQLite has open since this `opening` of them, if that is a new one."""
        if opening == self._opening:
            return
        self._opening, self._paths = opening, (path, log_path)
        self._unheard, self.doubtful = 0, True
        # Not to what is written to the database itself: a commit gets there only when the log is folded into it.
        masks = {path: _GONE, log_path: _WRITTEN, f"{log_path.removesuffix('-wal')}-shm": _GONE}
        try:
            if self._inotify is None:
                self._inotify = _Inotify()
            self._inotify.follow(masks)
        except OSError:
            self.polls = True
        else:
            self.polls = False

    def written(self) -> bool:
        """Return whether another process has written to the files since this was asked last, or may have."""
        doubtful, self.doubtful = self.doubtful, False
        written = self._inotify is not None and self._inotify.take()
        if self.polls:
            stamp = stamp_of(*self._paths)
            written, self._stamp = stamp != self._stamp, stamp
        return written or doubtful

    @contextmanager
    def own(self) -> Iterator[None]:
        """Take what is written to the files in the body, which holds the lock for writing, for this process's own.

        Own commits do not wake the loop by the notifications that they cause, which would cost as much as a look.
        """
        inotify = self._inotify
        if inotify is None:
            yield
        else:
            inotify.mute(muted=True)
            try:
                yield
                inotify.take()
            finally:
                inotify.mute(muted=False)
        if self.polls:
            self._stamp = stamp_of(*self._paths)

    async def wait(self) -> None:
        """Return when something was written, or may have been; never if nothing tells of it."""
        if self.polls or self._inotify is None:
            await trio.sleep_forever()
        elif self.doubtful:
            await trio.lowlevel.checkpoint()
        elif not self._waiting:
            self._waiting = True
            try:
                await trio.lowlevel.wait_readable(self._inotify.epoll)
            finally:
                self._waiting = False
        else:
            # Trio lets one task wait for a descriptor.
            descriptor = os.dup(self._inotify.epoll.fileno())
            try:
                await trio.lowlevel.wait_readable(descriptor)
            finally:
                os.close(descriptor)

    def found(self, *, heard: bool) -> None:
        """Note that a commit was found, and whether a notification had told of it."""
        self._unheard = 0 if heard else self._unheard + 1
        if self._unheard >= UNHEARD_MAX:
            self.polls = True

    def close(self) -> None:
        """Listen no more. No task may wait any more."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None


class Looks:
    """The times at which to look at the database, in seconds of one clock."""

    def __init__(self) -> None:
        self._until = self._at = self._check_at = 0.0
        self._pause_s = FIRST_LOOK_S

    @property
    def looking(self) -> bool:
        """Whether something was written that was perhaps not seen yet, so that the next look is due soon."""
        return self._at < self._until

    @property
    def next_at(self) -> float:
        """The time of the next look if nothing is written until then."""
        return self._at if self.looking else self._check_at

    def looked(self, now: float, *, written: bool, found: bool) -> None:
        """Note a look, and whether it has found a commit; `written` is what was heard of since the look before it.

        Processes write one after the other. So if nothing was written since the look before this one, and that did not
        see what this one has found, it is the commit of the last that wrote, and there is no other to wait for.
        """
        if written:
            if not self.looking:
                self._pause_s = FIRST_LOOK_S
            self._until = now + CHECK_EVERY_S
        elif found:
            self._until = now
        self._at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, WATCH_S)
        self._check_at = now + CHECK_EVERY_S
