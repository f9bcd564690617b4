"""Messages between a drill and its workers: JSON, one line each.

Times are seconds of CLOCK_MONOTONIC, which all processes of a host share.
"""

from __future__ import annotations

import msgspec

from softstate.cli.commands.drill.plan import Runtime
from softstate.model import Mode


class WorkerPlan(msgspec.Struct, frozen=True):
    """The clients that one worker runs. `follows` are topics by their numbers in `topics`.

    `via` maps ``host:port`` of a node to the port of a relay on this host that leads there. `ca` is
    the file of the authority that nodes are trusted by, empty for those of the system; `token_file`
    that of the token to present, empty for none. `runtime` runs the clients.
    """

    urls: list[str]
    topics: list[str]
    follows: dict[int, list[int]]
    via: dict[str, int] = {}
    ca: str = ""
    token_file: str = ""
    runtime: Runtime = "trio"


class Applied(msgspec.Struct, frozen=True, array_like=True):
    """A client applied a version of a topic at `at_s`; its publisher had sent it at `sent_s`.

    `resets` is how often the client was reset before: versions of two histories cannot be compared.
    """

    client: int
    topic: int
    version: int
    sent_s: float
    at_s: float
    resets: int = 0


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """At `at_s` a client was in `mode` and stated `age_s` (None: unknown). Counters are since the client's start."""

    client: int
    at_s: float
    age_s: float | None
    mode: Mode
    connects: int
    polls: int
    resets: int


class Tick(msgspec.Struct, frozen=True):
    """Changes and samples of one worker since its last tick. All changes were applied before the samples were taken."""

    applied: list[Applied]
    samples: list[Sample]
