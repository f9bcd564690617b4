"""A simulated callout, on a host of its own: nodes ask it, over the network, who presents a token, and about names.

Nodes run the real authority and the real shell of callouts against it. Its answers hold for a minute.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any, Literal, TypeAlias, final

import trio

from softstate.auth.authority import RulesAuthority
from softstate.auth.identity import reach_of
from softstate.auth.patterns import pattern_of
from softstate.auth.policy_file import read_policy
from softstate.client.tokens import TokenProvider, TokenRequest
from softstate.server.auth.callout import CalloutShell
from softstate.server.bulkhead import Bulkhead
from softstate.testing.network.network import SimNetwork
from softstate.testing.network.stream import SimStream
from softstate.testing.simulation.clocks import SimClock
from softstate.testing.trace import KeyReplaced, RightsChanged, TokenIssued, Trace

HOST, PORT = "localhost", 9000
"""Where it listens: only on its own machine a node asks by http."""

POLICY = f"""
[auth.callout]
url = "http://{HOST}:{PORT}/"
secret_file = "none"
"""

NAMES_TTL_S, NAMES_STALE_S = 20.0, 60.0

ASKS_NAMES = f"""for = ["identity", "names"]
ttl_s = {NAMES_TTL_S}
stale_s = {NAMES_STALE_S}
"""

NAMES_ANSWER_S = NAMES_TTL_S + NAMES_STALE_S + 20.0
"""Time for which a node that asks about names may go by an answer of before."""

TTL_S = 60.0
"""For how long an answer holds."""

ANSWER_S = TTL_S + 320.0
"""Time for which a node may go by an answer of before: a minute, five more while there is no other, and time-outs."""

SLOW_S = 1.5
"""Time that it takes to answer while it is slow."""

CalloutFault: TypeAlias = Literal["down", "slow", "hangs", "broken"]


@final
class SimCallout:
    """Answers questions, and makes tokens: `provider` logs a subject in again with each call.

    `names` are those that each subject may read and publish: answers about its token tell them, or, with `asks_names`,
    answers about names alone, which hold for less. `asked` and `asked_names` count the questions that were answered.
    """

    def __init__(self, network: SimNetwork, trace: Trace, *, asks_names: bool = False) -> None:
        self.fault: CalloutFault | None = None
        self.names: dict[str, tuple[str, ...]] = {}
        self.asked = self.asked_names = 0
        self.asks_names = asks_names
        self.logins = 0
        self._network = network
        self._trace = trace
        self._subjects: dict[str, str] = {}

    def allow(self, subject: str, *names: str) -> None:
        """Let a subject read and publish what these names cover, from its next answer on."""
        self.names[subject] = names
        self._trace.add(RightsChanged(trio.current_time(), subject, names))

    def log_out(self, subject: str) -> None:
        """Accept no token that a subject has now."""
        dead = tuple(token for token, each in self._subjects.items() if each == subject)
        self._subjects = {token: each for token, each in self._subjects.items() if each != subject}
        self._trace.add(KeyReplaced(trio.current_time(), dead))

    def provider(self, subject: str) -> TokenProvider:
        """Return the provider of a client whose tokens are this subject's."""

        async def provide(_request: TokenRequest) -> str:
            await trio.lowlevel.checkpoint()
            self.logins += 1
            token = f"login-{self.logins}-of-{subject}"
            self._subjects[token] = subject
            self._trace.add(TokenIssued(trio.current_time(), subject, token, math.inf))
            return token

        return provide

    def authority(self, host: str, clock: SimClock, bulkhead: Bulkhead) -> tuple[RulesAuthority, CalloutShell]:
        """Return the authority of a node on a host, and the shell that it has to run."""
        authority = RulesAuthority(read_policy(POLICY + ASKS_NAMES * self.asks_names, "auth.toml").policy)
        opener = self._network.opener(host)
        return authority, CalloutShell(authority, lambda: b"secret", clock.now, clock.now, bulkhead, opener)

    async def run(self) -> None:
        """Answer until cancelled."""
        await trio.serve_listeners(self._serve, [self._network.listen(HOST, PORT)])

    async def _serve(self, stream: SimStream) -> None:
        data = b""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while self.fault != "down":
                end = data.find(b"\r\n\r\n") + 4
                size = _length(data[:end]) if end >= 4 else 0
                if end < 4 or len(data) < end + size:
                    more = await stream.receive_some()
                    if not more:
                        return
                    data += more
                    continue
                question, data = json.loads(data[end : end + size]), data[end + size :]
                await self._answer(stream, question)
        await stream.aclose()

    async def _answer(self, stream: SimStream, question: dict[str, Any]) -> None:
        if self.fault == "hangs":
            await trio.sleep_forever()
        if self.fault == "slow":
            await trio.sleep(SLOW_S)
        if self.fault == "down":
            return
        said = self._of_names(question) if "ask" in question else self._of_token(question)
        body = b"<html>" if self.fault == "broken" else json.dumps(said).encode()
        await stream.send_all(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    def _of_token(self, question: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        subject = self._subjects.get(question["credentials"])
        said: dict[str, Any] = {"identity": None if subject is None else {"subject": subject}}
        if self.asks_names:
            said["ttl_s"] = 3_600
        if subject is not None and not self.asks_names:
            said["read"] = said["write"] = list(self.names.get(subject, ()))
        return said

    def _of_names(self, question: dict[str, Any]) -> dict[str, Any]:
        self.asked_names += 1
        allowed = reach_of(map(pattern_of, self.names.get(question["identity"]["subject"], ())))
        return {"allowed": [allowed.covers(each["name"]) for each in question["ask"]]}


def _length(head: bytes) -> int:
    (line,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return int(line.partition(b":")[2])
