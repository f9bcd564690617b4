import itertools

from softstate.position import Position
from softstate.wire.request_digest import DIGEST_BYTES, MUST_EXIST, request_digest

AT = Position("e", "l", 7)


def test_the_same_request_has_the_same_digest() -> None:
    assert request_digest("a", b"\x01", 3, AT) == request_digest("a", b"\x01", 3, Position("e", "l", 7))
    assert len(request_digest("a", None, None, None)) == DIGEST_BYTES


def test_requests_that_differ_in_anything_have_different_digests() -> None:
    topics = ["a", "b", "a7", "☃", "adeleted"]
    values = [None, b"", b"\x01", b"deleted", b"\x01\x01", b"value"]
    expects = [None, MUST_EXIST, 0, 1, 11]
    witnesses = [None, AT, Position("e", "l", 71), Position("f", "l", 7), Position("e", "m", 7)]
    requests = list(itertools.product(topics, values, expects, witnesses))
    assert len({request_digest(*request) for request in requests}) == len(requests)
