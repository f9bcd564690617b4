"""The load generator of `bench peers`, a program in C: subscribers and publishers of any system, from scripts of bytes.

`Generator` is a process of it; `bench/peers/generator/generator.c` describes its commands and answers.
"""

from __future__ import annotations

import json
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.load.process import LoadFailed
from bench.measure.servers import find
from bench.peers.talks import Step, Talk

SUBSCRIBERS, PUBLISHERS = 0, 1
AT_ONCE = 128
"""Handshakes under way at once."""
OPEN_MS_MAX = 120_000
ANSWER_S_MAX = 300.0
"""Longest time for an answer to any command."""
LOOK_S = 0.02
"""Time between two calls of what watches a command."""
_SOURCE = Path(__file__).parent / "generator.c"


def compiled(folder: Path, *options: str) -> Path:
    """Compile the generator into a folder, and return it. Raises `NotInstalled` if there is no compiler."""
    compiler, program = find("cc", "apt install gcc"), folder / "generator"
    subprocess.run([compiler, "-O2", *options, "-o", str(program), str(_SOURCE)], check=True)
    return program


class Generator:
    """A process of the generator, for the length of a block: the connections to one server. All methods block.

    All raise `LoadFailed` with what went wrong, such as the server's words that refused a handshake; after that, none
    can be called.
    """

    def __init__(self, program: Path, port: int) -> None:
        command = [str(program), str(port)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def talk(self, talk: Talk, subscribed: str, published: str) -> None:
        """Take the scripts of a system: the topic that subscribers follow, and the one that publishers publish."""
        for role, steps in enumerate((talk.subscriber(subscribed), talk.publisher)):
            for step in steps:
                self._step(role, step)
        self.ask("reflex", *talk.reflex)
        self.ask("publish", talk.publish(published), talk.ack, talk.refuse)

    def _step(self, role: int, step: Step) -> None:
        self.ask("step", role, step.send, step.begins, step.wait, step.count, step.refuse)

    def open(self, role: int, count: int, watch: Callable[[], None] | None = None) -> dict[str, float]:
        """Open connections of a role until all have done its handshake; call `watch` every `LOOK_S` meanwhile."""
        return self.ask("open", role, count, AT_ONCE, OPEN_MS_MAX, watch=watch)

    def quiet(self, seconds: float) -> dict[str, float]:
        """Only receive for so long."""
        return self.ask("quiet", int(seconds * 1_000))

    def paced(self, rate: float, seconds: float, settle_s: float) -> dict[str, float]:
        """Publish by the clock, then wait until all subscribers hold the newest value, `settle_s` at most.

        Latencies (``p50_s``, ``p99_s``) are those of each value to each subscriber, from when it was due until the
        subscriber held it or a newer one; those that never came count until the end of the run.
        """
        return self.ask("paced", rate, seconds, int(settle_s * 1_000))

    def bursts(self, size: int, times: int, timeout_s: float) -> dict[str, float]:
        """Publish `size` values in one write, and wait until all subscribers hold the newest; so many times.

        ``all_s`` is the mean time until then, ``late`` how many bursts did not end within `timeout_s`.
        """
        return self.ask("bursts", size, times, int(timeout_s * 1_000))

    def closed(self, seconds: float) -> dict[str, float]:
        """Have each publisher publish again as soon as the publish before is acknowledged."""
        return self.ask("closed", seconds)

    def ask(self, *words: str | bytes | float, watch: Callable[[], None] | None = None) -> dict[str, float]:
        """Send a command and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = " ".join((word.hex() or "-") if isinstance(word, bytes) else str(word) for word in words)
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LoadFailed("the generator has ended before") from None
        deadline = time.monotonic() + ANSWER_S_MAX
        while not select.select([self._process.stdout], [], [], LOOK_S)[0]:
            if time.monotonic() > deadline:
                raise LoadFailed(f"no answer to {words[0]!r} within {ANSWER_S_MAX:g} s")
            if watch is not None:
                watch()
        said = self._process.stdout.readline()
        if not said:
            raise LoadFailed(f"the generator ended with exit code {self._process.wait()}")
        answer: dict[str, float | str] = json.loads(said)
        if "failed" in answer:
            raise LoadFailed(str(answer["failed"]))
        return {name: float(value) for name, value in answer.items()}
