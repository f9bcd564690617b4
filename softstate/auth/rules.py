"""Rules: what an operator lets whom do, and the grant that they make of what is known of a principal.

A grant is a union: of what its token says, as far as its issuer is trusted, and of each rule that fits. An issuer with
a ceiling gives nothing beyond it, but for what anyone may, and makes no administrator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from softstate.auth.identity import NOTHING, Grant, reach_of
from softstate.auth.patterns import ANY, SUBJECT, Pattern, fill, pattern_of, values_in
from softstate.auth.remembering import remember
from softstate.names import SPELT, TOPIC_BYTES_MAX

RIGHTS_KEPT = 1_024
"""Rights that are remembered; those that were wanted longest ago are forgotten first. Most are of a few patterns."""

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

    def text_of(self, name: str) -> str | None:
        """Return that value if it is text, else None: it makes a pattern void."""
        value = self.value_of(name)
        return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Given:
    """One pattern of a grant, or the rights of an administrator (`pattern` is None), and where they come from."""

    action: Action
    pattern: Pattern | None
    where: str


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of all principals of whom the same is known, but for their subjects.

    Patterns have been compared with `SUBJECT` in the place of a subject. One that is spelt like a segment of them, or
    that makes some of them void, may have another grant.
    """

    grant: Grant = NOTHING
    special: frozenset[str] = frozenset()
    """Subjects that may have another grant, by the rules. One object is shared by all rights."""
    special_too: frozenset[str] = frozenset()
    """Further ones, by what is known of these principals."""
    subject_bytes_max: int = -1
    """Longest subject that is sure to make no pattern void."""
    values: frozenset[str] = frozenset()
    """Values that patterns ask for, but the subject."""

    def of(self, subject: str) -> Grant | None:
        """Return the grant of a subject, None for one that may have another. Takes 1 us."""
        grant = self.grant
        if subject in self.special or subject in self.special_too or self.subject_bytes_max < 0:
            return None
        if not (grant.read.own or grant.write.own):
            return grant
        if not _is_segment(subject) or len(subject.encode()) > self.subject_bytes_max:
            return None
        return Grant(grant.admin, grant.read, grant.write, subject)


class Rules:
    """All rules together. They remember rights, which many principals share."""

    def __init__(self, allows: Iterable[Allow] = ()) -> None:
        self.allows = tuple(allows)
        texts = [text for allow in self.allows for text in (*allow.read, *allow.write)]
        self._plain = {text: pattern_of(text) for text in texts if "{" not in text}
        self._values = values_in(texts)
        self._own = [text for text in texts if "{sub}" in text]
        whos = [allow.who for allow in self.allows]
        self._special = frozenset(who.sub for who in whos if who.sub is not None).union(_segments_of(texts))
        self._groups = frozenset(who.group for who in whos if who.group is not None)
        self._scopes = frozenset(who.scope for who in whos if who.scope is not None)
        self._rights: dict[object, Rights] = {}

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
        """Return the grant of a principal. Takes 5 us, and about 100 us where nothing alike is remembered."""
        grant = self.rights_of(known).of(known.subject) if known.issuer else None
        return self._made(known) if grant is None else grant

    def rights_of(self, known: Known) -> Rights:
        """Return what is given to all of whom the same is known, but for their subjects."""
        own = () if known.own is None else (*known.own.read, *known.own.write)
        texts = own if known.ceiling is None else (*own, *known.ceiling)
        names = self._values | values_in(texts) if texts else self._values
        values = frozenset([(name, known.text_of(name)) for name in names])
        key = known.issuer, known.groups & self._groups, known.scopes & self._scopes, known.own, known.ceiling, values
        rights = self._rights.pop(key, None)
        if rights is None:
            rights = self._made_alike(known, texts, names)
        remember(self._rights, key, rights, RIGHTS_KEPT)
        return rights

    def _made_alike(self, known: Known, texts: Iterable[str], names: frozenset[str]) -> Rights:
        alike = replace(known, subject=SUBJECT)
        grant = self._made(alike)
        if any(SUBJECT in pattern.segments for pattern in (*grant.read.wild, *grant.write.wild)):
            return Rights()
        own = self._filled([text for text in (*self._own, *texts) if "{sub}" in text], alike)
        bytes_max = min(map(_subject_bytes_max, own), default=0)
        values = [value for name in names if (value := known.text_of(name)) is not None]
        return Rights(grant, self._special, frozenset(_segments_of(texts).union(values)), bytes_max, names)

    def _made(self, known: Known) -> Grant:
        admin = False
        read: dict[Pattern, None] = {}
        write: dict[Pattern, None] = {}
        for given in self.given(known):
            if given.pattern is None:
                admin = True
            elif len(reached := read if given.action == "read" else write) < PATTERNS_MAX:
                reached[given.pattern] = None
        return Grant(admin, reach_of(read), reach_of(write))

    def _filled(self, texts: Iterable[str], known: Known) -> Iterator[Pattern]:
        for text in texts:
            pattern = self._plain.get(text) or fill(text, known.value_of)
            if pattern is not None:
                yield pattern


def _is_segment(subject: str) -> bool:
    """Tell whether a subject is a valid segment at any place; some of which this is not said are at some."""
    return (
        subject not in ("", ".", "..", ANY)
        and "/" not in subject
        and not subject.startswith(SPELT)
        and subject.isprintable()
    )


def _subject_bytes_max(pattern: Pattern) -> int:
    """Return how long a subject may be for a pattern that has it to be valid."""
    count = pattern.segments.count(SUBJECT)
    others = "/".join([segment for segment in pattern.segments if segment is not SUBJECT])
    return (TOPIC_BYTES_MAX - count - len(others.encode())) // count


def _segments_of(texts: Iterable[str]) -> set[str]:
    return {segment for text in texts for segment in text.split("/")}


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
