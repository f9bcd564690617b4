"""The plan of a drill: how many clients, which fault, for how long, and against which installation."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from softstate.cli.options.credentials import Presented, read_token
from softstate.client.url import parse_url
from softstate.errors import ConfigError, Invalid
from softstate.names import check_prefix

if TYPE_CHECKING:
    from softstate.client.tokens import TokenProvider

Kind: TypeAlias = Literal["server", "store", "link", "client", "rolling"]
"""The part that fails: the pushing node, the store, the link between clients and node, some of the clients; or each
node in its turn, in order, as for an upgrade."""

Runtime: TypeAlias = Literal["trio", "asyncio", "sync"]
"""The loop that runs the clients, or the threads of `softstate.sync`."""

CLIENTS_MAX = 5_000
"""Most clients of one drill: they all run on this host."""

SYNC_CLIENTS_MAX = 200
"""Most clients of `softstate.sync`: each has two threads, and is asked ten times a second."""

FOR_S_MIN = 1.0
FOR_S_MAX = 3_600.0
"""Longest time to measure; the memory of a drill grows with it."""

START_EVERY_S = 0.02
"""Clients of one worker begin so far apart: a drill is about coming back, not about a first rush."""

SAMPLE_EVERY_S = 0.1
"""How often a worker asks its clients for their ages, and reports."""

WORKERS = 4
"""Processes among which the clients are divided; of the kind `client`, one is stopped and one killed."""

TOPICS = 10
"""Number of topics, published in turn; each client follows two of them."""

TOPICS_A_CLIENT = 2
DELIVERIES_PER_S = 1_500.0
"""Changes that all clients together apply a second: below what the clients themselves can take."""

TOPIC_EVERY_S_MIN = 0.2
BETWEEN_S_MIN = 2.0
"""Least time between the restarts of two nodes: a proxy may pass over one that is back for a second."""

SERVER_DOWN_S = 2.0
"""A killed server stays away so long, or a third of the drill if that is less. Any other fault lasts that third."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One drill. `urls` is empty for a throw-away installation; `check` refuses what makes no sense."""

    kind: Kind
    clients: int
    for_s: float
    urls: tuple[str, ...] = ()
    prefix: str = ""
    kill_command: str = ""
    start_command: str = ""
    tls: bool = False
    """Whether throw-away nodes speak TLS."""
    runtime: Runtime = "trio"
    nginx: bool = False
    """Whether clients reach throw-away nodes through nginx alone."""
    token_file: Path | None = None
    """The file of the token that all clients present to an installation of the user's."""

    @property
    def own(self) -> bool:
        """Whether it runs against an installation of the user's."""
        return bool(self.urls)

    @property
    def urls_known(self) -> int:
        """Number of URLs that clients know."""
        return len(self.urls) or (1 if self.nginx else 2)

    @property
    def healthy_s(self) -> float:
        """Time to measure before the fault."""
        return self.for_s / 3

    @property
    def down_s(self) -> float:
        """Duration of the fault; of the kind `rolling`, time between the restarts."""
        if self.kind == "rolling":
            return max(BETWEEN_S_MIN, self.for_s / 3)
        return min(SERVER_DOWN_S, self.for_s / 3) if self.kind == "server" else self.for_s / 3

    @property
    def after_s(self) -> float:
        """Time to measure after the fault has ended."""
        return max(0.0, self.for_s - self.healthy_s - self.down_s)

    @property
    def topic_every_s(self) -> float:
        """Time between two publishes of one topic."""
        return max(TOPIC_EVERY_S_MIN, self.clients * TOPICS_A_CLIENT / DELIVERIES_PER_S)

    @property
    def names(self) -> tuple[str, ...]:
        """The topics: each below a prefix of its own, so that it can be followed by either."""
        return tuple(f"{self.prefix}{number}/state" for number in range(TOPICS))

    def follows(self, client: int) -> tuple[int, ...]:
        """Return which of the topics a client follows, by their numbers."""
        return tuple((client + step * (1 + client // TOPICS % (TOPICS - 1))) % TOPICS for step in range(2))

    def shares(self) -> list[range]:
        """Divide the clients among workers."""
        workers = min(WORKERS, self.clients)
        edges = [self.clients * worker // workers for worker in range(workers + 1)]
        return [range(*edge) for edge in pairwise(edges)]

    def check(self) -> Plan:
        """Return this plan, or raise `ConfigError` naming the option and what it must be."""
        least = 2 if self.kind == "client" else 1
        if not least <= self.clients <= CLIENTS_MAX:
            raise ConfigError(f"--clients must be {least} to {CLIENTS_MAX}, not {self.clients}")
        if self.runtime == "sync" and self.clients > SYNC_CLIENTS_MAX:
            raise ConfigError(f"--clients must be at most {SYNC_CLIENTS_MAX} with --client sync, not {self.clients}")
        if not FOR_S_MIN <= self.for_s <= FOR_S_MAX:
            raise ConfigError(f"--for must be {FOR_S_MIN:g}s to {FOR_S_MAX:g}s, not {self.for_s:g}s")
        for url in self.urls:
            parse_url(url)
        try:
            check_prefix(self.prefix, "--prefix")
        except Invalid as error:
            raise ConfigError(str(error)) from None
        if self.prefix == "/":
            raise ConfigError("--prefix must not be '/': what is published below it is deleted afterwards")
        if self.tls and self.own:
            raise ConfigError("--tls is for throw-away nodes: with --url, a URL that begins with wss:// says it")
        if self.nginx and (self.kind != "rolling" or self.own or self.tls):
            raise ConfigError("--nginx is for --kill rolling of throw-away nodes without --tls")
        if self.token_file is not None:
            if not self.own:
                raise ConfigError("--token-file is for an installation of your own: name its nodes with --url")
            read_token(self.token_file)
        self._check_commands()
        return self

    def _check_commands(self) -> None:
        given = [name for name in ("kill_command", "start_command") if getattr(self, name)]
        flags = {"kill_command": "--kill-command", "start_command": "--start-command"}
        if self.kind == "rolling":
            del flags["start_command"]
            if self.start_command:
                raise ConfigError("--start-command is not for --kill rolling: --kill-command restarts all nodes")
        needed = self.own and self.kind in ("server", "store", "rolling")
        if needed and len(given) < len(flags):
            missing = " and ".join(flag for name, flag in flags.items() if name not in given)
            raise ConfigError(f"--kill {self.kind} with --url needs {missing}: only you know how to do that there")
        if given and not needed:
            raise ConfigError(f"{flags[given[0]]} is for --kill server, store or rolling with --url")


def token_of(token_file: Path | None) -> str | TokenProvider | None:
    """Return what `softstate.connect` takes as `token`. Raises `ConfigError` if there is none in the file."""
    return None if token_file is None else Presented(token_file=token_file).for_client()


def fresh_prefix(given: Sequence[str] = ()) -> str:
    """Return the prefix that was given, or a random one."""
    return given[0] if given else f"drill/{secrets.token_hex(6)}/"
