"""``softstate publish --ndjson``: publish a file of changes, in order, with many of them in flight.

The client keeps the order of each topic, retries through restarts of the node and numbers its publishes, so that none
is applied twice. An interrupted run resumes at the lowest line that was not acknowledged; those of the `WINDOW` lines
after it that had been are published again, with the same values. A run with an ID gives every line an idempotency key
instead, made of the ID, the line's number and its content: then not even those are, while the store holds its keys.
"""

from __future__ import annotations

import os
import shlex
import signal
import stat
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import trio

from softstate.cli import exit_codes
from softstate.cli.exit_codes import Failure, exit_code_of
from softstate.cli.options.credentials import NO_CREDENTIALS, Presented
from softstate.cli.options.nodes import DEFAULT_URL, connected
from softstate.cli.terminal.ndjson_lines import BadLine, ChangeFile, Line
from softstate.cli.terminal.progress import ProgressBar
from softstate.cli.terminal.values import line_text
from softstate.client.api.receipt import Receipt, refusal_of
from softstate.errors import Invalid, SoftstateError, TooLarge

if TYPE_CHECKING:
    from softstate.client.api.client import Client

WINDOW = 128
"""Lines that may be in flight at once: half of what a node lets one connection have before it stops reading."""

RUN_CHARS_MAX = 64
"""Longest ID of a run: with a line's number and digest it makes a key, of at most 128 characters."""


@dataclass(frozen=True)
class Run:
    """Settings of one run over a file. `name` is its ID, if it has one; lines of a run with an ID are applied once."""

    urls: Sequence[str]
    timeout_s: float
    name: str | None = None
    credentials: Presented = NO_CREDENTIALS


@dataclass
class Counts:
    """Counts of the lines so far."""

    lines: int = 0
    published: int = 0
    deleted: int = 0
    repeated: int = 0
    started_s: float = field(default_factory=time.monotonic)

    def add(self, line: Line, *, repeated: bool) -> None:
        """Count one acknowledged line."""
        self.lines += 1
        self.repeated += repeated
        if line.deleted:
            self.deleted += 1
        else:
            self.published += 1

    def fields(self) -> dict[str, int | float]:
        """Return the counts, with the seconds so far and the lines per second."""
        seconds = max(time.monotonic() - self.started_s, 1e-3)
        return {
            "lines": self.lines,
            "published": self.published,
            "deleted": self.deleted,
            "repeated": self.repeated,
            "seconds": round(seconds, 3),
            "lines_per_s": round(self.lines / seconds),
        }

    def __str__(self) -> str:
        fields = self.fields()
        return (
            f"{self.lines} line{'' if self.lines == 1 else 's'} acknowledged: {self.published} published,"
            f" {self.deleted} deleted ({self.repeated} of them already before), in {fields['seconds']:.1f} s,"
            f" {fields['lines_per_s']} a second"
        )


async def publish_file(name: str, run: Run, from_line: int, as_json: bool) -> int:
    """Publish a file (``-``: standard input) from a line on, print the counts, and return the exit code.

    Raises `Failure` when it could not be finished: its message ends in the command that resumes.
    """
    if from_line < 1:
        raise Failure(f"--from-line counts from 1, not {from_line}", exit_codes.USAGE)
    if run.name is not None:
        _check_run(run.name)
    with _opened(name) as raw:
        total = os.fstat(raw.fileno()).st_size if stat.S_ISREG(os.fstat(raw.fileno()).st_mode) else None
        with ProgressBar(Path(name).name, total) as bar:
            publishing = Publishing(run.name, ChangeFile(raw, from_line), from_line, bar)
            await publishing.run(run)
    counts = publishing.counts
    print(line_text(counts.fields()) if as_json else counts, flush=True)
    if publishing.stopped is None:
        return exit_codes.OK
    reason, code = publishing.stopped
    fix = "correct it, then " if code == exit_codes.USAGE else ""
    resume = _resume(name, run, publishing.resume_at)
    raise Failure(
        f"{reason}. Every line before {publishing.resume_at} is published; {fix}continue with: {resume}", code
    )


class Publishing:
    """One run over one file: the lines in flight, the answers, and the reason why it stopped."""

    def __init__(self, name: str | None, file: ChangeFile, from_line: int, bar: ProgressBar) -> None:
        self.name = name
        self.counts = Counts()
        self.resume_at = from_line
        """The lowest line that was not acknowledged."""
        self.stopped: tuple[str, int] | None = None
        """Why it ended before the end of the file, and the exit code; the lowest line that failed counts."""
        self._file = file
        self._bar = bar

    async def run(self, run: Run) -> None:
        """Publish until the end of the file, the first line that fails, or a signal; everything in flight is awaited.

        After a signal, or when nothing was acknowledged for `timeout_s`, what is in flight is given up.
        """
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, signals, nursery.cancel_scope)
                async with connected(run.urls, run.credentials) as client:
                    outgoing, receipts = _channel()
                    async with trio.open_nursery() as both:
                        both.start_soon(self._submit, client, outgoing)
                        both.start_soon(self._settle, receipts, run, nursery.cancel_scope)
                nursery.cancel_scope.cancel()

    async def _obey(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        await anext(signals)
        self._stop("interrupted", exit_codes.INTERRUPTED)
        scope.cancel()

    async def _submit(self, client: Client, outgoing: trio.MemorySendChannel[tuple[Line, Receipt]]) -> None:
        async with outgoing:
            try:
                while (batch := await trio.to_thread.run_sync(self._file.batch, abandon_on_cancel=True)) is not None:
                    for line in batch:
                        if self.stopped is not None:
                            return
                        await outgoing.send((line, self._publish(client, line)))
            except BadLine as error:
                self._stop(error.message, exit_codes.USAGE)

    def _publish(self, client: Client, line: Line) -> Receipt:
        key = None if self.name is None else line.key(self.name)
        try:
            if line.deleted:
                return client.delete_soon(line.topic, key=key)
            return client.publish_soon(line.topic, line.value, key=key, each=True)
        except (Invalid, TooLarge) as error:
            raise BadLine(line.number, error.message) from None

    async def _settle(
        self, receipts: trio.MemoryReceiveChannel[tuple[Line, Receipt]], run: Run, scope: trio.CancelScope
    ) -> None:
        failed = False
        async for line, receipt in receipts:
            try:
                with trio.fail_after(run.timeout_s):
                    published = await receipt.wait()
            except trio.TooSlowError:
                if (refusal := refusal_of(receipt)) is not None:
                    self._stop(f"line {line.number} was not published: {refusal.message}", exit_codes.REFUSED)
                    scope.cancel()
                    return
                nodes = " or ".join(run.urls)
                self._stop(f"nothing was acknowledged by {nodes} for {run.timeout_s:g} s", exit_codes.UNAVAILABLE)
                scope.cancel()
                return
            except SoftstateError as error:
                if not failed:
                    self.stopped = None
                    self._stop(f"line {line.number}: {error}", exit_code_of(error))
                failed = True
                continue
            self.counts.add(line, repeated=published.repeated)
            if not failed:
                self.resume_at = line.number + 1
            self._bar.show(self._file.bytes_read, self.counts.lines)

    def _stop(self, reason: str, code: int) -> None:
        if self.stopped is None:
            self.stopped = (reason.rstrip("."), code)


def _channel() -> tuple[trio.MemorySendChannel[tuple[Line, Receipt]], trio.MemoryReceiveChannel[tuple[Line, Receipt]]]:
    return trio.open_memory_channel(WINDOW)


def _check_run(name: str) -> None:
    if not 1 <= len(name) <= RUN_CHARS_MAX:
        raise Failure(f"--run must have 1 to {RUN_CHARS_MAX} characters", exit_codes.USAGE)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Failure("--run must be valid Unicode (it holds a lone surrogate)", exit_codes.USAGE) from None


def _opened(name: str) -> AbstractContextManager[BinaryIO]:
    if name == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise Failure(f"cannot read {name}: {error.strerror}", exit_codes.USAGE) from None


def _resume(name: str, run: Run, line: int) -> str:
    """Write the command that goes on where this run stopped."""
    words = ["softstate", "publish", "--ndjson", name, "--from-line", str(line)]
    if run.name is not None:
        words += ["--run", run.name]
    if tuple(run.urls) != (DEFAULT_URL,):
        for url in run.urls:
            words += ["--url", url]
    if run.credentials.token_file is not None:
        words += ["--token-file", str(run.credentials.token_file)]
    return shlex.join(words)
