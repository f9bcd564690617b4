import typing

import pytest

from softstate.wire import CLOSE_FOR, CloseCode, may_reconnect
from softstate.wire.messages import Farewell


@pytest.mark.parametrize(
    ("code", "comes_back"),
    [
        (1000, True),
        (1006, True),
        (1011, True),
        (3999, True),
        (4000, True),
        (4099, True),
        (4100, False),
        (4199, False),
        (4200, False),
        (4299, False),
        (4300, True),
        (4999, True),
    ],
)
def test_the_range_tells_whether_to_come_back(code: int, comes_back: bool) -> None:
    assert may_reconnect(code) is comes_back


def test_every_code_is_in_the_range_that_says_what_to_do() -> None:
    assert {code.name: int(code) for code in CloseCode} == {
        "BUG": 1011,
        "DRAINING": 4000,
        "DROP_SESSION": 4001,
        "IDLE": 4002,
        "SLOW_HELLO": 4003,
        "OVERLOADED": 4004,
        "UNAVAILABLE": 4005,
        "UNAUTHENTICATED": 4100,
        "REVOKED": 4101,
        "PROTOCOL": 4200,
    }
    assert {code for code in CloseCode if not may_reconnect(code)} == {
        CloseCode.UNAUTHENTICATED,
        CloseCode.REVOKED,
        CloseCode.PROTOCOL,
    }


def test_every_farewell_has_a_code_and_the_client_comes_back_after_each() -> None:
    assert set(CLOSE_FOR) == set(typing.get_args(Farewell))
    assert all(map(may_reconnect, CLOSE_FOR.values()))


def test_only_farewells_after_which_a_session_is_worthless_drop_it() -> None:
    assert {reason for reason, code in CLOSE_FOR.items() if code is CloseCode.DROP_SESSION} == {"rewound", "replaced"}
