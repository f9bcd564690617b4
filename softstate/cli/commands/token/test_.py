"""``softstate token test``: try what a policy file lets somebody do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import trio
from cyclopts import Parameter

from softstate.auth.answers import Unasked
from softstate.auth.authority import RulesAuthority
from softstate.auth.callout import CALLOUT_ISSUER
from softstate.auth.certificate import CERTIFICATE_ISSUER
from softstate.auth.identity import Grant
from softstate.auth.patterns import pattern_of
from softstate.auth.policy import STATIC_ISSUER
from softstate.auth.proxy import PROXY_ISSUER
from softstate.auth.rules import Known
from softstate.cli import exit_codes
from softstate.cli.commands.token.options import Claims, Groups, claims_of
from softstate.cli.terminal.streams import note
from softstate.cli.terminal.tokens import token_at
from softstate.cli.visible import visible
from softstate.errors import ConfigError, Denied
from softstate.names import ALL, check_prefix, check_topic
from softstate.server.auth.once import fetched_policy
from softstate.server.auth.policy_files import LoadedPolicy, load_policy
from softstate.server.config.server_config import FILE_KEYS


async def command(
    action: Literal["read", "write"],
    name: Annotated[str, Parameter(name="NAME")],
    /,
    *,
    auth: Annotated[Path, Parameter(metavar="FILE")],
    token_file: Annotated[str | None, Parameter(metavar="FILE", allow_leading_hyphen=True)] = None,
    sub: Annotated[str | None, Parameter(metavar="NAME")] = None,
    issuer: Annotated[str | None, Parameter(metavar="NAME")] = None,
    group: Groups = (),
    scope: Annotated[tuple[str, ...], Parameter(negative=(), metavar="NAME", show_default=False)] = (),
    claim: Claims = (),
) -> int:
    """Say whether somebody may read or write a topic or prefix, and which rule decides. Exit code 7 if not.

    Somebody is the holder of a token (--token-file), or a subject (--sub) whom no token need name, or else anyone.

    :param action: read or write.
    :param name: The topic, such as orders/42, or the prefix, such as orders/.
    :param auth: The policy file, as for `softstate serve`.
    :param token_file: The file that holds the token; '-' is standard input.
    :param sub: The subject; what follows is said of it.
    :param issuer: Its issuer; the only one of the policy file by default, and 'static' for static tokens.
    :param scope: Has this scope; repeated.
    """
    check = check_prefix if name.endswith(ALL) and action == "read" else check_topic
    check(name, "NAME")
    if token_file is not None and (sub is not None or issuer is not None or group or scope or claim):
        raise ConfigError("--token-file says who it is: give it, or --sub and what is said of it")
    if sub is None and (issuer is not None or group or scope or claim):
        raise ConfigError("--sub is missing: what is said of a subject needs one")
    if token_file is not None:
        text = token_at(token_file)
        policy = await fetched_policy(auth, FILE_KEYS)
        for failed, failure in (policy.failures | policy.problems).items():
            note(visible(f"issuer {failed}: {failure}"))
        authority = policy.authority
        try:
            known, _ = authority.known(text, trio.current_time(), time.time())
        except Unasked:
            raise ConfigError(
                "--token-file: a running node asks the callout whose token this is; say it yourself, with --sub and"
                f" --issuer {CALLOUT_ISSUER}"
            ) from None
    else:
        loaded = load_policy(auth, FILE_KEYS)
        authority = RulesAuthority(loaded.policy, loaded.keyrings)
        known = Known() if sub is None else _subject(loaded, sub, issuer, group, scope, claims_of(claim))
    return _answer(authority, known, action, name)


def _subject(
    loaded: LoadedPolicy, sub: str, issuer: str | None, groups: tuple[str, ...], scopes: tuple[str, ...],
    claims: dict[str, object],
) -> Known:  # fmt: skip
    policy = loaded.policy
    ceilings = {item.name: item.ceiling for item in policy.issuers}
    if policy.proxy is not None and policy.proxy.subject_header:
        ceilings[PROXY_ISSUER] = policy.proxy.ceiling
    if policy.callout is not None:
        ceilings[CALLOUT_ISSUER] = policy.callout.ceiling
    if policy.mtls is not None:
        ceilings[CERTIFICATE_ISSUER] = None
    if issuer is None:
        if len(ceilings) != 1:
            raise ConfigError(f"--issuer is missing: it must be one of {', '.join([*ceilings, STATIC_ISSUER])}")
        (issuer,) = ceilings
    if issuer == STATIC_ISSUER:
        static = next((token for token in loaded.policy.tokens if token.name == sub), None)
        if static is None:
            raise ConfigError(f"--sub: there is no [[auth.token]] of the name {sub!r}")
        return Known(STATIC_ISSUER, sub, own=static.allow)
    if issuer not in ceilings:
        raise ConfigError(f"--issuer must be one of {', '.join([*ceilings, STATIC_ISSUER])}, not {issuer!r}")
    return Known(issuer, sub, frozenset(groups), frozenset(scopes), claims, ceiling=ceilings[issuer])


def _answer(authority: RulesAuthority, known: Known, action: Literal["read", "write"], name: str) -> int:
    """Print the rule that decides, and return the exit code. Raises `Denied`."""
    who = visible(f"{known.subject} of {known.issuer}") if known.issuer else "anyone"
    grant = authority.rules.grant_of(known)
    if grant.may_read(name) if action == "read" else grant.may_write(name):
        asked = pattern_of(name)
        for given in authority.rules.given(known):
            covers = given.pattern is not None and given.action == action and given.pattern.covers(asked)
            if given.action == "admin" or covers:
                by = f"{given.action} {given.pattern}" if given.pattern is not None else "admin"
                print(visible(f"{who} may {action} {name}: {by}, by {given.where}"))
                return exit_codes.OK
    callout = authority.policy.callout
    asks = callout is not None and "names" in callout.about and known.issuer
    also = " (a running node asks the callout about that, too)" if asks else ""
    raise Denied(f"{who} may not {action} {visible(name)}{_instead(grant, action, name)}{also}")


def _instead(grant: Grant, action: str, name: str) -> str:
    if action == "read" and (narrow := grant.narrow(name)):
        return f"; allowed below it: {' '.join(map(visible, narrow))}"
    patterns = grant.patterns("read" if action == "read" else "write")
    return f"; allowed: {' '.join(visible(str(pattern)) for pattern in patterns) or 'nothing'}"
