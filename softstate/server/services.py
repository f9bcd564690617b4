"""The part of a node that HTTP uses."""

from __future__ import annotations

from typing import Any, Protocol

from softstate.server.auth.gate import NodeGate
from softstate.server.bulkhead import Bulkhead
from softstate.server.config import ServerConfig
from softstate.server.edge.patience import Patience
from softstate.server.edge.per_address import PerAddress
from softstate.server.fanout.hub import Hub
from softstate.server.fanout.turns import Turns
from softstate.server.storage.access import StoreAccess
from softstate.server.storage.asker import Asker
from softstate.wire.messages import Poll


class PollWatch(Protocol):
    """One poll over HTTP, as it is measured."""

    def answered(self, wait_ms: int | None = None, said: Poll | None = None) -> int:
        """Note that it was answered to its end; return after how many milliseconds to poll again.

        `wait_ms` is for how long the next poll will wait for news, None if it will not. What its client
        `said` of itself counts until then.
        """

    def left(self) -> None:
        """Note that it failed, or that another page of it is still to be asked for."""


class Explains(Protocol):
    """Explains to people; see `softstate.server.explain.Explainer`."""

    async def client(self, name: str) -> Any:
        """Explain the sessions of a client, by the name that it has given itself."""

    async def topic(self, topic: str) -> Any:
        """Explain a topic. Raises `Invalid`, and the errors of a read."""


class Services(Protocol):
    """One node, as its routes see it. `Node` implements it; tests of HTTP give the routes something simpler."""

    @property
    def config(self) -> ServerConfig:
        """The node's configuration."""

    @property
    def access(self) -> StoreAccess:
        """Reading and writing the store."""

    @property
    def gate(self) -> NodeGate:
        """The gate that knows who presents credentials."""

    @property
    def per_address(self) -> PerAddress:
        """The count of the connections of each address."""

    @property
    def hub(self) -> Hub:
        """Waiting for changes."""

    @property
    def bulkhead(self) -> Bulkhead:
        """The bulkhead that contains the bugs of single requests."""

    @property
    def patience(self) -> Patience:
        """The deadlines of all connections."""

    @property
    def turns(self) -> Turns:
        """The budget of the turns of the loop, which all connections share."""

    @property
    def draining(self) -> bool:
        """Whether the node is shutting down: no new sessions, replies close their connection."""

    @property
    def lagging(self) -> str | None:
        """The reason why clients should be sent to another node: this one lags behind its store; None without one."""

    @property
    def unready(self) -> str | None:
        """The reason why the store cannot be used: it is down, or publishes fail; None without one."""

    def watch_poll(self, *, again: bool) -> PollWatch:
        """Begin to measure a poll; `again`: its client is expected to poll again, unlike one that lists topics once."""

    def next_poll_ms(self, asker: Asker, wait_ms: int | None = None, said: Poll | None = None) -> int:
        """Return after how many milliseconds to poll again, and expect it: for a poll that is not measured.

        `wait_ms` and `said` are as in `PollWatch.answered`.
        Polls that are answered without the store say nothing about the rate at which others are served.
        """

    @property
    def explainer(self) -> Explains:
        """Explanations for people."""

    async def status(self) -> dict[str, Any]:
        """Count what this node holds, for people."""

    async def scrape(self) -> bytes:
        """Write the metrics of this node, and of the other workers of its supervisor, in Prometheus's text format."""
