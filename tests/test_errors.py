import inspect
import re

import pytest

from softstate import errors
from softstate.errors import ERRORS_BY_CODE, ConfigError, RequestError, SoftstateError, StoreFault, TryLater
from softstate.position import Position

# PROTOCOL.md section 5
HTTP_STATUS = {
    "invalid": 400,
    "unsupported": 415,
    "unauthenticated": 401,
    "denied": 403,
    "not_found": 404,
    "conflict": 412,
    "key_reused": 409,
    "no_lease": 410,
    "compacted": 410,
    "rewound": 410,
    "too_large": 413,
    "unreadable": 500,
    "overloaded": 429,
    "unavailable": 503,
    "behind": 503,
}
CLASSES = {
    name: thing
    for name, thing in vars(errors).items()
    if inspect.isclass(thing) and issubclass(thing, BaseException) and thing.__module__ == errors.__name__
}


def drawn() -> dict[str, tuple[str | None, str | None, int | None]]:
    """Read the drawing: each class with its parent, and its code and HTTP status where it has one."""
    assert errors.__doc__ is not None
    found: dict[str, tuple[str | None, str | None, int | None]] = {}
    path: list[str] = []
    for line in errors.__doc__.split("::\n", 1)[1].splitlines():
        match = re.fullmatch(r" {4}((?:│   |    )*(?:[├└]── )?)(\w+)(?: +(?:([a-z_]+) (\d{3})  +)?.+)?", line)
        if not match:
            assert not line.strip(), line
            continue
        branch, name, code, status = match.groups()
        path[len(branch) // 4 :] = [name]
        found[name] = (path[-2] if len(path) > 1 else None, code, int(status) if status else None)
    return found


def test_the_tree_is_as_drawn() -> None:
    actual: dict[str, tuple[str | None, str | None, int | None]] = {}
    for name, error in CLASSES.items():
        [parent] = error.__bases__
        above = parent.__name__ if parent is not Exception else None
        if issubclass(error, RequestError) and "code" in vars(error) and error is not RequestError:
            actual[name] = (above, error.code, error.http_status)
        else:
            actual[name] = (above, None, None)
    assert drawn() == actual
    assert len(actual) > 20


def test_the_codes_are_those_of_the_protocol_in_its_order() -> None:
    assert {code: error.http_status for code, error in ERRORS_BY_CODE.items()} == HTTP_STATUS
    assert all(error.code == code for code, error in ERRORS_BY_CODE.items())
    assert set(ERRORS_BY_CODE.values()) == set(leaves(RequestError))


def leaves(kind: type[RequestError]) -> list[type[RequestError]]:
    # Other modules subclass these errors, too: whether they are loaded depends on the tests before this one.
    below = [each for each in kind.__subclasses__() if each.__module__ == kind.__module__]
    return [leaf for each in below for leaf in leaves(each)] if below else [kind]


def test_what_may_succeed_later_can_be_caught_as_one() -> None:
    assert {error.code for error in leaves(TryLater)} == {"overloaded", "unavailable", "behind"}


def test_a_code_is_its_class_in_snake_case() -> None:
    for code, error in ERRORS_BY_CODE.items():
        assert re.sub(r"(?<=[a-z])(?=[A-Z])", "_", error.__name__).lower() == code


@pytest.mark.parametrize("kind", ERRORS_BY_CODE.values(), ids=lambda kind: kind.__name__)
def test_a_wire_error_carries_what_it_is_given(kind: type[RequestError]) -> None:
    bare = kind("what happened")
    assert (bare.message, bare.retry_ms, bare.current, bare.position) == ("what happened", None, None, None)
    assert str(bare) == "what happened"
    at = Position("e", "l", 7)
    full = kind("what happened", retry_ms=0, current=4, position=at)
    assert (full.retry_ms, full.current, full.position) == (0, 4, at)
    with pytest.raises(SoftstateError):
        raise full


@pytest.mark.parametrize("kind", CLASSES.values(), ids=lambda kind: kind.__name__)
def test_every_error_says_what_to_make_of_it(kind: type[BaseException]) -> None:
    assert issubclass(kind, SoftstateError)
    assert kind.__doc__


def test_what_is_no_answer_has_no_code() -> None:
    kinds: list[type] = [SoftstateError, ConfigError, StoreFault, *StoreFault.__subclasses__()]
    for kind in kinds:
        assert not issubclass(kind, RequestError)
        assert not hasattr(kind, "code")
