"""Options that client commands share: the nodes to ask, and the time to wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Annotated, TypeAlias

from cyclopts import Parameter

from softstate.cli.exit_codes import UNAVAILABLE, Failure
from softstate.cli.options.credentials import Presented
from softstate.cli.options.durations import duration

if TYPE_CHECKING:
    from softstate.client.api.client import Client
    from softstate.errors import SoftstateError
    from softstate.http_client.streams import OpenStream, Stream

DEFAULT_URL = "ws://127.0.0.1:8700"

Urls: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(
        name="--url",
        env_var="SOFTSTATE_URL",
        negative=(),
        metavar="URL",
        help="A node's URL; may be repeated: further nodes to fall back to. In SOFTSTATE_URL, separated by spaces.",
    ),
]
Timeout: TypeAlias = Annotated[
    float,
    Parameter(
        name="--timeout",
        converter=duration,
        metavar="DURATION",
        show_default=lambda seconds: f"{seconds:g}s",
        help="How long to wait and retry before giving up.",
    ),
]
AsJson: TypeAlias = Annotated[bool, Parameter(name="--json", negative=(), show_default=False)]
"""Print JSON, one object a line, for programs."""


class Reached:
    """Whether a connection to some node was opened: if not, nothing was sent either."""

    def __init__(self) -> None:
        self.yes = False

    def through(self, open_stream: OpenStream) -> OpenStream:
        """Return what opens streams in the same way, and records success."""

        async def opened(host: str, port: int, tls: bool) -> Stream:
            stream = await open_stream(host, port, tls)
            self.yes = True
            return stream

        return opened


def connected(
    urls: Sequence[str], credentials: Presented, *, push: bool = True, reached: Reached | None = None
) -> AbstractAsyncContextManager[Client]:
    """Open a client for the nodes that the user named, with the credentials that they gave. Raises `ConfigError`."""
    from softstate.client.api.connect import connect  # noqa: PLC0415 - --help does without
    from softstate.client.shell.trust import opening  # noqa: PLC0415
    from softstate.http_client.streams import open_tcp  # noqa: PLC0415

    tls, open_stream = credentials.tls(urls), None
    if reached is not None:
        open_stream, tls = reached.through(open_tcp if tls is None else opening(tls)), None
    return connect(
        urls,
        push=push,
        name="softstate command",
        token=credentials.for_client(),
        tls=tls,
        ordered=True,  # as the user has named them
        open_stream=open_stream,
    )


def nowhere(urls: Iterable[str], timeout_s: float, because: SoftstateError | None = None) -> Failure:
    """Return the failure that no node was reached at any of these URLs, with the last error that is known."""
    why = "" if because is None else f" The last error: {because}"
    return Failure(
        f"no node reached at {' or '.join(urls)} within {timeout_s:g} s: is one running there (softstate serve)?{why}",
        UNAVAILABLE,
    )
