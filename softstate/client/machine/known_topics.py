"""The newest known state of each topic, found by topic or by prefix.

Prefixes are found by a tree of segments: each prefix that leads to a known topic lists what lies directly below it. So
opening or closing a handle on a prefix costs what lies below it, and not what is known in all.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from softstate.model import Change
from softstate.names import ALL, SPELT, is_prefix

_ROOTS = (ALL, SPELT)
"""The top of the tree, and that of names which ``/`` does not reach: no name itself."""


def _parent(name: str) -> str:
    """Return the narrowest prefix above a topic, or above a prefix other than ``/``."""
    return name[: name.rfind("/", 0, -1) + 1] or (SPELT if name[0] == SPELT else ALL)


class KnownTopics:
    """States by topic; `states` is for reading only. Siblings are listed in the order in which they came."""

    def __init__(self) -> None:
        self.states: dict[str, Change] = {}
        self._children: dict[str, dict[str, None]] = {}

    def keep(self, change: Change) -> None:
        """Take a state in place of the one known before."""
        if change.topic not in self.states:
            self._enter(change.topic)
        self.states[change.topic] = change

    def forget(self, topic: str) -> None:
        """Forget a topic that is known."""
        del self.states[topic]
        name = topic
        while True:
            above = _parent(name)
            siblings = self._children[above]
            del siblings[name]
            if siblings:
                return
            del self._children[above]
            if above in _ROOTS:
                return
            name = above

    def below(self, prefix: str, but: Container[str] = ()) -> list[str]:
        """List the known topics below a prefix, without those named in `but`, or below a prefix named there."""
        found = []
        levels = [iter(self._children.get(prefix, ()))]
        while levels:
            for name in levels[-1]:
                if name in but:
                    continue
                if is_prefix(name):
                    levels.append(iter(self._children[name]))
                    break
                found.append(name)
            else:
                levels.pop()
        return found

    def replace(self, changes: Iterable[Change]) -> None:
        """Know these states, and nothing else."""
        self.states.clear()
        self._children.clear()
        for change in changes:
            self.keep(change)

    def _enter(self, name: str) -> None:
        while True:
            above = _parent(name)
            siblings = self._children.get(above)
            if siblings is not None:
                siblings[name] = None
                return
            self._children[above] = {name: None}
            if above in _ROOTS:
                return
            name = above
