import re

from softstate.server.http.date import SharedDate
from tests.kit.fake_node import FakeNode


def test_the_date_is_written_once_a_second() -> None:
    now = 784_111_777.0
    date = SharedDate(lambda: now)
    first = date()
    assert first == "Sun, 06 Nov 1994 08:49:37 GMT"
    now += 0.9
    assert date() is first
    now += 0.1
    assert date() == "Sun, 06 Nov 1994 08:49:38 GMT"
    now -= 3_600
    assert date() == "Sun, 06 Nov 1994 07:49:38 GMT", "a clock that is set back is followed"


async def test_every_reply_of_a_node_has_a_date() -> None:
    get = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for answer in await FakeNode().exchange(
        get % b"/healthz" + get % b"/v1/topics/a" + get % b"/no" + b"nonsense\r\n\r\n"
    ):
        assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", answer["date"])
