"""Wrong uses of what `connect` and `subscribe` return, of either kind, answer with what to write instead.

Such a bug would show up as "object is not iterable" otherwise, or, worse, as a subscription that is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn


class AsyncBlock:
    """A block that is entered by ``async with``, and of no other use."""

    _HINT: ClassVar[str]
    """Says what it is, and shows how it is written."""

    if not TYPE_CHECKING:  # a checker of types refuses these by itself

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"{name!r} is asked of a block that was not entered. {self._HINT}")

        def __await__(self) -> NoReturn:
            raise TypeError(self._HINT)

        def __iter__(self) -> NoReturn:
            raise TypeError(self._HINT)

        def __aiter__(self) -> NoReturn:
            raise TypeError(self._HINT)

        def __enter__(self) -> NoReturn:
            raise TypeError(self._HINT)

        def __exit__(self, *_: object) -> None:
            """Stand here so that ``with`` gets as far as `__enter__`, which says what to write."""


class Blocking:
    """A client, or an iterator, of no use with ``async`` and ``await``."""

    _HINT: ClassVar[str]
    """Says what it is, and shows how it is written."""

    if not TYPE_CHECKING:  # a checker of types refuses these by itself

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"{type(self).__name__} has no {name!r}. {self._HINT}")

        def __await__(self) -> NoReturn:
            raise TypeError(self._HINT)

        def __aiter__(self) -> NoReturn:
            raise TypeError(self._HINT)

        async def __aenter__(self) -> NoReturn:
            raise TypeError(self._HINT)

        async def __aexit__(self, *_: object) -> None:
            """Stand here so that ``async with`` gets as far as `__aenter__`, which says what to write."""
