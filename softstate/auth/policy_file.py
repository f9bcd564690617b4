"""The policy file: issuers, static tokens and rules as an operator writes them in TOML, read and checked.

Everything that is wrong is told with its name and line. A name that is not known is wrong: a rule that is misspelt and
silently ignored would be found by nobody.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from softstate.auth.callout import CALLOUT_ISSUER, read_callout
from softstate.auth.certificate import CERTIFICATE_ISSUER, read_certificate_rule
from softstate.auth.keyring import Times
from softstate.auth.limits import PUBLISH_BYTES, PUBLISHES, NamespaceLimit
from softstate.auth.policy import STATIC_ISSUER, Policy, StaticToken
from softstate.auth.proxy import PROXY_ISSUER, read_proxy
from softstate.auth.rules import Allow, Who
from softstate.auth.token import SUBJECT_CHARS_MAX, Issuer
from softstate.auth.toml_tables import TomlFile, TomlTable, guess, repeated
from softstate.auth.urls import check_url
from softstate.errors import ConfigError, Invalid
from softstate.names import check_prefix

SourceKind: TypeAlias = Literal["secret_file", "public_key_file", "jwks_file", "jwks_url", "discovery"]

SOURCES: tuple[SourceKind, ...] = ("secret_file", "public_key_file", "jwks_file", "jwks_url", "discovery")
"""Where the keys of an issuer may come from: a name of each, as the file has it."""

DISCOVERY_PATH = "/.well-known/openid-configuration"
"""Where an issuer tells the URL of its keys (OpenID Connect Discovery 1.0)."""

LIMITS_MAX = 1_024
"""Most prefixes with limits."""

RATE_MAX = 1e12
"""Highest rate that a limit may name: above it, it is a slip of the keyboard."""

RESERVED_ISSUERS = {
    STATIC_ISSUER: "static tokens",
    PROXY_ISSUER: "subjects that a proxy vouches for",
    CALLOUT_ISSUER: "subjects that a callout names",
    CERTIFICATE_ISSUER: "subjects that client certificates name",
}
"""Issuers of identities that no issuer of tokens has made."""

_ALGORITHMS = re.compile(r"(HS|RS|PS|ES)(256|384|512)|EdDSA|Ed25519")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where the keys of an issuer come from: `at` is a path, relative to the file's folder, or a URL.

    `where` says in words where that is written. Two sources are equal if the same keys come from them.
    """

    kind: SourceKind
    at: str
    algorithms: tuple[str, ...]
    times: Times
    where: str = field(compare=False)

    @property
    def fetched(self) -> bool:
        """Tell whether the keys come from a URL."""
        return self.kind in ("jwks_url", "discovery")


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy, and where the keys of each of its issuers come from, by the issuer's name."""

    policy: Policy
    sources: Mapping[str, KeySource]


def read_policy(content: str, name: str, beside: Collection[str] = ()) -> PolicyFile:
    """Read a policy file. Raises `ConfigError`, which says what is wrong, where, and what it must be.

    `beside` names the keys that the file may have for others, as the configuration file of a node has.
    """
    try:
        data = tomllib.loads(content)
    except ValueError as error:
        raise ConfigError(f"{name} is not a TOML file: {error}") from None
    except RecursionError:
        raise ConfigError(f"{name} is nested too deep") from None
    file = TomlFile(name, content)
    top = TomlTable(file, data, ())
    auth = top.table("auth")
    issuers = [_issuer(table) for table in auth.tables("issuer")]
    tokens = tuple(_token(table) for table in auth.tables("token"))
    allows = tuple(_allow(table) for table in top.tables("allow"))
    limits = tuple(_limit(table) for table in top.tables("limit"))
    proxy = read_proxy(auth.table("proxy")) if "proxy" in auth.data else None
    callout = read_callout(auth.table("callout")) if "callout" in auth.data else None
    mtls = read_certificate_rule(auth.table("mtls")) if "mtls" in auth.data else None
    auth.end()
    top.end(beside)
    _check_unique([issuer.name for issuer, _ in issuers], auth, "issuer", "issuer")
    _check_unique([token.name for token in tokens], auth, "token", "name")
    _check_unique([token.digest for token in tokens], auth, "token", "sha256")
    vouches = proxy is not None and bool(proxy.subject_header)
    names = {issuer.name for issuer, _ in issuers} | {STATIC_ISSUER}
    special = ((PROXY_ISSUER, vouches), (CALLOUT_ISSUER, callout), (CERTIFICATE_ISSUER, mtls))
    names |= {name for name, given in special if given}
    for number, allow in enumerate(allows):
        if allow.who.issuer is not None and allow.who.issuer not in names:
            place = TomlTable(file, {}, ("allow", number)).place("who")
            what = f"names {allow.who.issuer!r}, which is no issuer{guess(allow.who.issuer, names)}"
            raise ConfigError(f"{place} {what}")
    if not (issuers or tokens or vouches or callout or mtls or any(allow.who.anyone for allow in allows)):
        raise ConfigError(
            f"{name} lets nobody in: add an [[auth.issuer]], an [[auth.token]] or an [[allow]] for anyone"
        )
    if len(limits) > LIMITS_MAX:
        raise ConfigError(f"{name} has {len(limits)} tables [[limit]], the most are {LIMITS_MAX}")
    again = repeated([limit.prefix for limit in limits])
    if again is not None:
        number, _ = again
        table = TomlTable(file, {}, ("limit", number))
        raise table.wrong("prefix", f"must be another one: {limits[number].prefix!r} has its limits above")
    policy = Policy(tuple(issuer for issuer, _ in issuers), tokens, allows, limits, proxy, callout, mtls)
    return PolicyFile(policy, {issuer.name: source for issuer, source in issuers})


def _issuer(table: TomlTable) -> tuple[Issuer, KeySource]:
    name = table.text("issuer", maximum=SUBJECT_CHARS_MAX)
    if name in RESERVED_ISSUERS:
        raise table.wrong("issuer", f"must not be {name!r}, which stands for {RESERVED_ISSUERS[name]}")
    issuer = Issuer(
        name,
        audience=table.texts("audience"),
        types=tuple(text.lower().removeprefix("application/") for text in table.texts("typ", ())),
        leeway_s=table.number("leeway_s", 30.0, 0, 600),
        max_token_s=table.number("max_token_s", 86_400.0, 1, 366 * 86_400),
        trust_grants=table.flag("trust_grants", default=True),
        ceiling=table.patterns("may_grant") if "may_grant" in table.data else None,
        grants_claim=table.text("grants_claim", "softstate"),
        groups_claim=table.text("groups_claim", "groups"),
    )
    source = _source(table, name)
    table.end()
    return issuer, source


def _source(table: TomlTable, issuer: str) -> KeySource:
    given = [kind for kind in SOURCES if kind in table.data]
    if len(given) != 1:
        had = " and ".join(given) or "none of them"
        raise ConfigError(f"{table.place()} must have one of {', '.join(SOURCES)}; it has {had}")
    (kind,) = given
    if kind == "discovery":
        if not table.flag("discovery", default=False):
            raise table.wrong("discovery", "must be true, or left out")
        at = issuer.rstrip("/") + DISCOVERY_PATH
    else:
        at = table.text(kind)
    algorithms = table.texts("algorithms", ())
    for algorithm in algorithms:
        if not _ALGORITHMS.fullmatch(algorithm):
            raise table.wrong(
                "algorithms", f"must be HS256, RS256, PS256, ES256 (or 384, 512) or EdDSA, not {algorithm!r}"
            )
    usual = Times()
    times = Times(
        table.number("fresh_s", usual.fresh_s, 10, 86_400),
        table.number("cool_s", usual.cool_s, 1, 3_600),
        table.number("stale_s", usual.stale_s, 60, 366 * 86_400),
    )
    if not times.cool_s <= times.fresh_s <= times.stale_s:
        raise table.wrong("fresh_s", "must be at least cool_s, and at most stale_s")
    source = KeySource(kind, at, algorithms, times, table.place(kind))
    if source.fetched:
        try:
            check_url(at)
        except ValueError as error:
            raise ConfigError(f"{source.where}: {at!r} cannot be used: {error}") from None
        if any(algorithm.startswith("HS") for algorithm in algorithms):
            raise table.wrong("algorithms", "must not hold HS256, HS384 or HS512: a set that is fetched has no secrets")
    return source


def _token(table: TomlTable) -> StaticToken:
    name = table.text("name", maximum=SUBJECT_CHARS_MAX)
    digest = table.text("sha256")
    if not _DIGEST.fullmatch(digest):
        raise table.wrong("sha256", "must be 64 hexadecimal digits in lower case: `softstate token static` prints them")
    until = table.data.get("until")
    table.known.add("until")
    if until is not None and not (isinstance(until, datetime) and until.tzinfo is not None):
        raise table.wrong("until", "must be a time with its offset, such as 2027-01-31T00:00:00Z")
    allow = Allow(
        Who(),
        table.patterns("read"),
        table.patterns("write"),
        table.flag("admin", default=False),
        where=f"the static token {name!r}",
    )
    table.end()
    return StaticToken(name, bytes.fromhex(digest), allow, math.inf if until is None else until.timestamp())


def _allow(table: TomlTable) -> Allow:
    allow = Allow(
        _who(table),
        table.patterns("read"),
        table.patterns("write"),
        table.flag("admin", default=False),
        where=table.place(),
    )
    if not (allow.read or allow.write or allow.admin):
        raise ConfigError(f"{table.place()} must allow something: read, write or admin")
    if allow.who.anyone and any("{" in text for text in (*allow.read, *allow.write)):
        raise ConfigError(f"{table.place()} is for anyone, of whom nothing is known: write its patterns without {{…}}")
    table.end()
    return allow


def _limit(table: TomlTable) -> NamespaceLimit:
    prefix = table.text("prefix")
    try:
        check_prefix(prefix)
    except Invalid as error:
        raise ConfigError(f"{table.place('prefix')}: {error.message}") from None
    limit = NamespaceLimit(
        prefix, table.number(PUBLISHES, 0.0, 0, RATE_MAX), table.number(PUBLISH_BYTES, 0.0, 0, RATE_MAX)
    )
    if not (limit.publishes_per_s or limit.publish_bytes_per_s):
        raise ConfigError(f"{table.place()} must limit something: {PUBLISHES} or {PUBLISH_BYTES}, above 0")
    table.end()
    return limit


def _who(table: TomlTable) -> Who:
    table.known.add("who")
    who = table.data.get("who")
    if who in ("anyone", "signed-in"):
        return Who(anyone=who == "anyone")
    fields = ("sub", "issuer", "group", "scope")
    if not isinstance(who, dict) or not who or not all(isinstance(text, str) and text for text in who.values()):
        raise table.wrong(
            "who", "must be 'anyone', 'signed-in' or a table of sub, issuer, group or scope: {group = 'ops'}"
        )
    for name in who:
        if name not in fields:
            raise table.wrong("who", f"must not have {name!r}{guess(name, fields)}")
    return Who(**who)


def _check_unique(values: Sequence[Hashable], above: TomlTable, table: str, key: str) -> None:
    again = repeated(values)
    if again is not None:
        number, first = again
        one = TomlTable(above.file, {}, ("auth", table, number))
        raise one.wrong(key, f"must be another one: [[auth.{table}]] {first + 1} has it already")
