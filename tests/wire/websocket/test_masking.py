import pytest

from softstate.wire.websocket.masking import rotate, unmask

MASKS = [bytes(4), b"\xff" * 4, b"\x01\x02\x03\x04", b"\x00\x00\x00\x80", b"\x80\x00\x00\x00"]


@pytest.mark.parametrize("mask", MASKS)
def test_each_byte_is_combined_with_its_byte_of_the_mask(mask: bytes) -> None:
    for size in [*range(20), 383, 384, 385, 386, 387, 1_000, 65_537]:
        payload = bytes(index * 31 & 0xFF for index in range(size))
        plain = unmask(payload, mask)
        assert plain == bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        assert unmask(plain, mask) == payload


@pytest.mark.parametrize("mask", MASKS)
def test_a_payload_may_be_unmasked_in_parts(mask: bytes) -> None:
    payload = bytes(range(50))
    for first in range(50):
        parts = unmask(payload[:first], mask) + unmask(payload[first:], rotate(mask, first))
        assert parts == unmask(payload, mask)
