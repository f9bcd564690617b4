"""Wrong uses of what `connect` and `subscribe` return, of either kind, answer with what to write instead.

Such a bug would show up as "object is not iterable" otherwise, or, worse, as a subscription that is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn


class _Hinting:
    """Answers uses that it is not made for with its hint."""

    _HINT: ClassVar[str]
    """Says what it is, and shows how it is written."""

    if not TYPE_CHECKING:  # a checker of types refuses these by itself

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"{type(self).__name__} has no {name!r}. {self._HINT}")

        def __await__(self, *_: object) -> NoReturn:
            raise TypeError(self._HINT)

        __aiter__ = __await__


class AsyncBlock(_Hinting):
    """A block that is entered by ``async with``, and of no other use."""

    if not TYPE_CHECKING:
        __iter__ = __enter__ = __exit__ = _Hinting.__await__


class Blocking(_Hinting):
    """A client, or an iterator, of no use with ``async`` and ``await``."""

    if not TYPE_CHECKING:
        __aenter__ = __aexit__ = _Hinting.__await__
