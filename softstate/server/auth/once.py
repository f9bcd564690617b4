"""A policy with the keys of its issuers fetched once: for commands that look at it, and run no node."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from softstate.auth.authority import RulesAuthority
from softstate.server.auth.key_sets import FetchFailed, fetch_keys
from softstate.server.auth.policy_files import LoadedPolicy, load_policy


@dataclass(frozen=True, slots=True)
class FetchedPolicy:
    """A policy with its authority; by issuer, why keys could not be fetched, and which were not taken."""

    loaded: LoadedPolicy
    authority: RulesAuthority
    failures: dict[str, str]
    problems: dict[str, str]


async def fetched_policy(path: Path, beside: Collection[str] = ()) -> FetchedPolicy:
    """Read a policy file and have all keys fetched that it names by URL. Raises `ConfigError` for the file alone.

    `beside` names the keys that are for others.
    """
    loaded = load_policy(path, beside)
    authority = RulesAuthority(loaded.policy, loaded.keyrings)
    found = FetchedPolicy(loaded, authority, {}, {})
    async with trio.open_nursery() as nursery:
        for issuer, keyring in loaded.keyrings.items():
            if keyring.fetched:
                keyring.began(0.0)
                nursery.start_soon(partial(_fetch, issuer, found))
    return found


async def _fetch(issuer: str, found: FetchedPolicy) -> None:
    try:
        keys, problems = await fetch_keys(issuer, found.loaded.sources[issuer])
    except FetchFailed as error:
        found.loaded.keyrings[issuer].failed(str(error))
        found.failures[issuer] = str(error)
    else:
        found.authority.got(issuer, keys, 0.0)
        if problems:
            found.problems[issuer] = "; ".join(problems)
