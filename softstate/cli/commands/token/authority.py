"""The authority that a policy file makes, with the keys of its issuers fetched once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from softstate.auth.authority import RulesAuthority
from softstate.server.auth.key_sets import FetchFailed, fetch_keys
from softstate.server.auth.policy_files import LoadedPolicy, load_policy


@dataclass(frozen=True, slots=True)
class Fetched:
    """A policy with its authority; `failures` says, by issuer, why keys were not fetched or not taken."""

    loaded: LoadedPolicy
    authority: RulesAuthority
    failures: dict[str, str]


async def fetched(path: Path) -> Fetched:
    """Read a policy file and have all keys fetched that it names by URL. Raises `ConfigError` for the file alone."""
    loaded = load_policy(path)
    authority = RulesAuthority(loaded.policy, loaded.keyrings)
    failures: dict[str, str] = {}
    async with trio.open_nursery() as nursery:
        for issuer, keyring in loaded.keyrings.items():
            if keyring.fetched:
                keyring.began(0.0)
                nursery.start_soon(partial(_fetch, issuer, loaded, authority, failures))
    return Fetched(loaded, authority, failures)


async def _fetch(issuer: str, loaded: LoadedPolicy, authority: RulesAuthority, failures: dict[str, str]) -> None:
    try:
        keys, problems = await fetch_keys(issuer, loaded.sources[issuer])
    except FetchFailed as error:
        loaded.keyrings[issuer].failed(str(error))
        failures[issuer] = str(error)
    else:
        authority.got(issuer, keys, 0.0)
        if problems:
            failures[issuer] = "; ".join(problems)
