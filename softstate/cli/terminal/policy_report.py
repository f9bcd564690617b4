"""The policy of a node, for people: issuers and their keys, static tokens, rules, limits, and the rights of anyone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from softstate.auth.certificate import CERTIFICATE_ISSUER
from softstate.auth.keyring import Keyring
from softstate.auth.rules import Allow, Known, Who
from softstate.cli.exit_codes import UNAVAILABLE, Failure
from softstate.cli.visible import visible
from softstate.server.auth.once import FetchedPolicy, fetched_policy
from softstate.server.config.server_config import FILE_KEYS


async def report_policy(path: Path, valid: str, *, in_config: bool = False, client_ca: bool = False) -> None:
    """Print `valid`, and what a policy file says, which may be the configuration file.

    `client_ca` tells whether the node asks clients for certificates.

    Raises `ConfigError`, before it prints anything, or `Failure` if an issuer's keys cannot be fetched.
    """
    found = await fetched_policy(path, FILE_KEYS if in_config else ())
    print(valid)
    for line in _lines(found, client_ca=client_ca):
        print(visible(line))
    if found.failures:
        why = "; ".join(f"issuer {issuer}: {failure}" for issuer, failure in found.failures.items())
        raise Failure(f"keys cannot be fetched, without which a node refuses their tokens: {why}", UNAVAILABLE)


CALLOUT_ABOUT = {"identity": "tokens of no issuer", "names": "names beyond what rules grant"}


def _lines(found: FetchedPolicy, *, client_ca: bool) -> Iterator[str]:
    policy = found.loaded.policy
    for issuer in policy.issuers:
        at = found.loaded.sources[issuer.name].at
        ceiling = "" if issuer.ceiling is None else f"; may grant {_names(issuer.ceiling)}"
        yield f"issuer {issuer.name}: {_keys(found.authority.keyrings[issuer.name])} from {at}{ceiling}"
    for problem in (*found.loaded.problems, *found.problems.values()):
        yield f"not taken: {problem}"
    for token in policy.tokens:
        yield f"static token {token.name}: {_rights(token.allow)}"
    if policy.proxy is not None:
        trusted = [*map(str, policy.proxy.networks), *(["unix"] if policy.proxy.unix else [])]
        names = policy.proxy.subject_header or "addresses alone"
        yield f"proxies {', '.join(trusted)}: trusted for {names}"
    if policy.callout is not None:
        about = [text for name, text in CALLOUT_ABOUT.items() if name in policy.callout.about]
        yield f"callout {policy.callout.url}: asked about {' and '.join(about)} (not asked now)"
    if policy.mtls is not None:
        unasked = "" if client_ca else "; this node asks for none: give it --tls-client-ca FILE"
        yield f"client certificates (issuer {CERTIFICATE_ISSUER}): the subject is their {policy.mtls.subject}{unasked}"
    elif client_ca:
        yield "client certificates: none is taken, as the policy has no table [auth.mtls]"
    for allow in policy.allows:
        yield f"{allow.where}: {_who(allow.who, alone=len(policy.issuers) < 2)}: {_rights(allow)}"
    for limit in policy.limits:
        rates = [
            f"{rate:.15g} {what}"
            for rate, what in ((limit.publishes_per_s, "publishes"), (limit.publish_bytes_per_s, "bytes"))
            if rate
        ]
        yield f"limit of {limit.prefix}: {' and '.join(rates)} a second, of all who publish"
    grant = found.authority.rules.grant_of(Known())
    if grant.admin:
        yield "anyone may everything"
    elif found.authority.rules.know_anyone:
        read, write = _names([*map(str, grant.patterns("read"))]), _names([*map(str, grant.patterns("write"))])
        yield f"anyone may read {read}, and write {write}"
    else:
        yield "anyone may nothing: credentials are needed"


def _keys(keyring: Keyring) -> str:
    keys = ", ".join(f"{key.id or '(no kid)'} {max(key.algorithms)}" for key in keyring.keys)
    return f"keys {keys}" if keys else "no keys"


def _who(who: Who, *, alone: bool) -> str:
    if who.anyone:
        return "anyone"
    parts = {"sub": who.sub, "issuer": who.issuer, "group": who.group, "scope": who.scope}
    words = " and ".join(f"{name} {value}" for name, value in parts.items() if value is not None)
    return (words or "signed-in") + ("" if alone or who.issuer is not None else " (of any issuer)")


def _rights(allow: Allow) -> str:
    rights = [f"{action} {_names(texts)}" for action, texts in (("read", allow.read), ("write", allow.write)) if texts]
    return ", ".join([*rights, *(["admin"] if allow.admin else [])]) or "nothing of its own"


def _names(texts: Sequence[str]) -> str:
    return " ".join(texts) or "nothing"
