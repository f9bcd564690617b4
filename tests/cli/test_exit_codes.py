"""Errors in groups, as nurseries raise them: one of them is told."""

from __future__ import annotations

from softstate.cli.exit_codes import UNAVAILABLE, Failure, leaf
from softstate.errors import ClientClosed

FAILURE = Failure("no", UNAVAILABLE)


def test_a_group_in_a_group_is_unwrapped() -> None:
    assert leaf(ExceptionGroup("", [ExceptionGroup("", [FAILURE])])) is FAILURE


def test_the_first_of_several_errors_that_are_no_bugs_is_told() -> None:
    assert leaf(ExceptionGroup("", [ExceptionGroup("", [FAILURE, ClientClosed("x")]), ClientClosed("y")])) is FAILURE


def test_a_bug_beside_an_error_is_told_with_it() -> None:
    group = ExceptionGroup("", [FAILURE, ZeroDivisionError()])
    assert leaf(group) is group


def test_a_reader_that_left_goes_before_errors_that_came_of_that() -> None:
    left = BrokenPipeError()
    assert leaf(ExceptionGroup("", [FAILURE, ExceptionGroup("", [left])])) is left
    group = ExceptionGroup("", [ZeroDivisionError(), left])
    assert leaf(ExceptionGroup("", [group])) is group


def test_a_ctrl_c_goes_before_every_error() -> None:
    interrupt = KeyboardInterrupt()
    assert (
        leaf(BaseExceptionGroup("", [FAILURE, BaseExceptionGroup("", [interrupt]), ZeroDivisionError()])) is interrupt
    )
