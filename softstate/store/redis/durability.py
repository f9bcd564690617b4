"""How durable an acknowledged commit is on a Redis server, by the server's own report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from softstate.model import Durability

INFO_SECTIONS = ("persistence", "memory")
SETTINGS = ("appendfsync", "no-appendfsync-on-rewrite", "save")

_MEND = "set appendonly yes and appendfsync always"


def read_info(text: bytes) -> dict[str, str]:
    """Read what INFO answers: a line of ``name:value`` each."""
    pairs = (line.partition(":") for line in text.decode().splitlines())
    return {name: value for name, colon, value in pairs if colon}


def judge_durability(info: Mapping[str, str], settings: Mapping[str, str] | None) -> tuple[Durability, Sequence[str]]:
    """Return the durability, and the warnings, each with what to do.

    `info` has the `INFO_SECTIONS`, `settings` the `SETTINGS`, or is None if the server keeps them to itself.
    """
    warnings = [*_log_warnings(info, settings), *_eviction_warnings(info)]
    return Durability.WEAK if warnings else Durability.DURABLE, warnings


def _log_warnings(info: Mapping[str, str], settings: Mapping[str, str] | None) -> list[str]:
    if info.get("aof_enabled") != "1":
        if settings is not None and not settings.get("save"):
            return [f"Redis keeps nothing on disk: a restart of it loses everything; {_MEND}"]
        return [f"Redis writes no log (appendonly no): a crash of it loses what is newer than its last dump; {_MEND}"]
    if settings is None:
        return ["Redis keeps a log, but does not tell when it syncs it (CONFIG is refused): a crash may lose commits"]
    if settings.get("appendfsync") != "always":
        policy = settings.get("appendfsync")
        return [f"Redis answers before it syncs its log (appendfsync {policy}): a power cut loses commits; {_MEND}"]
    if settings.get("no-appendfsync-on-rewrite") == "yes":
        return ["Redis does not sync its log while rewriting it (no-appendfsync-on-rewrite yes); set it to no"]
    return []


def _eviction_warnings(info: Mapping[str, str]) -> list[str]:
    policy = info.get("maxmemory_policy", "")
    # The volatile ones only evict keys that expire, and none of a store's does.
    if info.get("maxmemory", "0") == "0" or not policy.startswith("allkeys"):
        return []
    return [f"Redis evicts any key when its memory is full (maxmemory-policy {policy}); set it to noeviction"]
