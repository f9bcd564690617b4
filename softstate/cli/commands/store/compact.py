"""``softstate store compact``: forget which topics were deleted."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from softstate.cli import exit_codes
from softstate.cli.commands.store.opening import DEFAULT_STORE, StoreUrl, writing
from softstate.errors import ConfigError


async def command(
    *,
    upto: int | None = None,
    everything: Annotated[bool, Parameter(name="--all", negative=(), show_default=False)] = False,
    store: StoreUrl = DEFAULT_STORE,
) -> int:
    """Forget which topics were deleted, up to a revision or all of them.

    Nodes do this by themselves, an hour after a topic was deleted (softstate serve --tombstone-s). Nothing is lost by
    it: a client that has been away since before the newest deletion forgotten takes the whole list of its topics
    again when it comes back, instead of the changes alone. Idempotency keys are kept.

    :param upto: Forget what was deleted at or below this revision.
    :param everything: Forget everything that was deleted until now.
    """
    if (upto is None) != everything:
        raise ConfigError("say what to forget: --upto REVISION or --all")
    if upto is not None and upto < 1:
        raise ConfigError(f"upto must be a revision, at least 1, not {upto}")
    async with writing(store) as opened:
        head = await opened.head()
        before = await opened.info()
        floor = await opened.compact(tombstones=min(upto or head.revision, head.revision), keys=0)
        forgotten = before.tombstones - (await opened.info()).tombstones
    # Others may have deleted more meanwhile.
    print(f"{max(0, forgotten)} forgotten; a client that has not seen revision {floor} lists its topics again")
    return exit_codes.OK
