"""Rules: what an operator lets whom do, and the grant that they make of what is known of a principal.

A grant is a union: of what its token says, as far as its issuer is trusted, and of each rule that fits. An issuer with
a ceiling gives nothing beyond it, but for what anyone may, and makes no administrator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from weakref import WeakValueDictionary

from softstate.auth.identity import Grant, reach_of
from softstate.auth.patterns import Pattern, fill, pattern_of

Action: TypeAlias = Literal["read", "write", "admin"]

WILD_MAX = 64
"""Most patterns with a ``*`` that a token itself may grant, for reading or for writing, and that a ceiling may make of
them: each is compared with every name, and, to leave out what is needless, with each other one."""

PATTERNS_MAX = 4_096
"""Most patterns of one grant, for reading or for writing; what a ceiling makes of more is left out."""


@dataclass(frozen=True, slots=True)
class Who:
    """The principals that a rule is for: anyone at all, or those signed in of whom all that is given here is true."""

    anyone: bool = False
    sub: str | None = None
    issuer: str | None = None
    group: str | None = None
    scope: str | None = None

    def fits(self, known: Known) -> bool:
        """Tell whether the rule is for a principal."""
        if self.anyone:
            return True
        return (
            bool(known.issuer)
            and self.sub in (None, known.subject)
            and self.issuer in (None, known.issuer)
            and (self.group is None or self.group in known.groups)
            and (self.scope is None or self.scope in known.scopes)
        )


@dataclass(frozen=True, slots=True)
class Allow:
    """A rule. `where` says in words where it is written; patterns may have values to fill."""

    who: Who
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    admin: bool = False
    where: str = "a rule"


@dataclass(frozen=True, slots=True)
class Known:
    """All that credentials say of a principal; an anonymous one has neither issuer nor subject.

    `claims` holds values for patterns, `own` is what the credentials themselves grant, and `ceiling` what their issuer
    may grant at most (None: anything).
    """

    issuer: str = ""
    subject: str = ""
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    claims: Mapping[str, object] = field(default_factory=dict)
    own: Allow | None = None
    ceiling: tuple[str, ...] | None = None

    def value_of(self, name: str) -> object:
        """Return the value that stands for ``{sub}``, ``{iss}`` or ``{claim:NAME}``, None if there is none."""
        if name == "sub":
            return self.subject or None
        if name == "iss":
            return self.issuer or None
        value = self.claims.get(name.removeprefix("claim:"))
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


@dataclass(frozen=True, slots=True)
class Given:
    """One pattern of a grant, or the rights of an administrator (`pattern` is None), and where they come from."""

    action: Action
    pattern: Pattern | None
    where: str


class Rules:
    """All rules together. Grants of the same patterns, none of which has a value, are one object.

    It is kept as long as anybody holds it. A grant that has values is somebody's own, and to remember it costs more.
    """

    def __init__(self, allows: Iterable[Allow] = ()) -> None:
        self.allows = tuple(allows)
        self._made: WeakValueDictionary[tuple[bool, tuple[Pattern, ...], tuple[Pattern, ...]], Grant] = (
            WeakValueDictionary()
        )
        texts = (text for allow in self.allows for text in (*allow.read, *allow.write))
        self._plain = {text: pattern_of(text) for text in texts if "{" not in text}
        self._shared = frozenset(self._plain.values())

    @property
    def know_anyone(self) -> bool:
        """Tell whether some rule is for anyone: then a peer without credentials has an identity."""
        return any(allow.who.anyone for allow in self.allows)

    def given(self, known: Known) -> Iterator[Given]:
        """List what a principal is given, and where that comes from."""
        ceiling = None if known.ceiling is None else [*self._filled(known.ceiling, known)]
        own = () if known.own is None else (known.own,)
        for allow in (*own, *(allow for allow in self.allows if allow.who.fits(known))):
            cap = None if allow.who.anyone else ceiling
            if allow.admin and cap is None:
                yield Given("admin", None, allow.where)
            wild_max = WILD_MAX if allow is known.own else PATTERNS_MAX
            for pattern in _few_wild(_capped(self._filled(allow.read, known), cap), wild_max):
                yield Given("read", pattern, allow.where)
            for pattern in _few_wild(_capped(self._filled(allow.write, known), cap), wild_max):
                yield Given("write", pattern, allow.where)

    def grant_of(self, known: Known) -> Grant:
        """Return the grant of a principal."""
        admin = False
        read: dict[Pattern, None] = {}
        write: dict[Pattern, None] = {}
        for given in self.given(known):
            if given.pattern is None:
                admin = True
            elif len(reached := read if given.action == "read" else write) < PATTERNS_MAX:
                reached[given.pattern] = None
        if not (read.keys() <= self._shared and write.keys() <= self._shared):
            return Grant(admin, reach_of(read), reach_of(write))
        key = admin, tuple(read), tuple(write)
        grant = self._made.get(key)
        if grant is None:
            grant = self._made[key] = Grant(admin, reach_of(read), reach_of(write))
        return grant

    def _filled(self, texts: Iterable[str], known: Known) -> Iterator[Pattern]:
        for text in texts:
            pattern = self._plain.get(text) or fill(text, known.value_of)
            if pattern is not None:
                yield pattern


def _few_wild(patterns: Iterable[Pattern], wild_max: int) -> Iterator[Pattern]:
    """Leave out patterns with a ``*`` beyond so many different ones."""
    wild: set[Pattern] = set()
    for pattern in patterns:
        if not pattern.is_name and pattern not in wild:
            if len(wild) >= wild_max:
                continue
            wild.add(pattern)
        yield pattern


def _capped(patterns: Iterable[Pattern], ceiling: Iterable[Pattern] | None) -> Iterator[Pattern]:
    for pattern in patterns:
        if ceiling is None:
            yield pattern
            continue
        for cap in ceiling:
            met = pattern.within(cap)
            if met is not None:
                yield met
