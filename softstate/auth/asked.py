"""Names that a callout has allowed one principal, beside what its grant reaches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias, final

from softstate.names import covered

NameAction: TypeAlias = Literal["read", "write"]
Asked: TypeAlias = tuple[NameAction, str]
"""A question about a name: may it be read, or written?"""


@final
class AllowedNames:
    """The names that a principal may read, and those that it may write. All grants of the principal share one.

    Names are added to it. When some are not allowed any more, another one takes its place, so that grants differ.
    """

    __slots__ = ("__weakref__", "_names")

    def __init__(self, names: Iterable[Asked] = ()) -> None:
        self._names: dict[NameAction, set[str]] = {}
        for asked in names:
            self.add(asked)

    def __contains__(self, asked: Asked) -> bool:
        """Tell whether just this name was allowed."""
        action, name = asked
        return name in self._names.get(action, ())

    def add(self, asked: Asked) -> None:
        """Allow a name."""
        action, name = asked
        self._names.setdefault(action, set()).add(name)

    def without(self, lost: Iterable[Asked]) -> AllowedNames:
        """Return these names without some."""
        gone = set(lost)
        return AllowedNames(
            (action, name) for action, names in self._names.items() for name in names if (action, name) not in gone
        )

    def covers(self, action: NameAction, name: str) -> bool:
        """Tell whether a name, or a prefix that it is below, was allowed."""
        names = self._names.get(action)
        return names is not None and covered(names, name)
