"""Reading a value that a user gave: text that is no value is refused by a sentence."""

from __future__ import annotations

import pytest

from softstate.cli import exit_codes, run
from softstate.cli.terminal.values import value_of
from softstate.errors import Invalid


@pytest.mark.parametrize(
    "text", ['{"a":[1,"x"]}', '\ufeff{"a":[1,"x"]}', b'{"a":[1,"x"]}', b'\xef\xbb\xbf{"a":[1,"x"]}']
)
def test_a_value_may_begin_with_a_byte_order_mark(text: str | bytes) -> None:
    assert value_of(text) == {"a": [1, "x"]}


@pytest.mark.parametrize("levels", [33, 300, 3_000, 300_000])
@pytest.mark.parametrize("brackets", ["[]", ["{" + '"a":', "}"]])
@pytest.mark.parametrize("is_text", [True, False])
def test_a_value_that_is_nested_too_deep_is_refused(levels: int, brackets: list[str], is_text: bool) -> None:
    text = brackets[0] * levels + "1" + brackets[1] * levels
    with pytest.raises(Invalid, match=r"nested (too deep|deeper).*32 levels"):
        value_of(text if is_text else text.encode())


@pytest.mark.parametrize("text", ['"\udcff"', "\udcff", b'"\xff"', b'{"a": ["\xff"]}'])
def test_what_is_no_unicode_is_refused_with_a_way_to_write_bytes(text: str | bytes) -> None:
    """An argument that is no UTF-8 has lone surrogates in place of its bytes."""
    with pytest.raises(Invalid, match="not text in UTF-8") as refused:
        value_of(text)
    assert """as in '{"$bytes": "AAE="}'""" in str(refused.value)
    assert value_of('{"$bytes": "AAE="}') == b"\x00\x01"


@pytest.mark.parametrize("value", ["[" * 3_000, '"\udcff"', "", "paid"])
def test_publish_refuses_what_is_no_value(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["publish", "t", value]) == exit_codes.USAGE
    assert capsys.readouterr().err.startswith("softstate: the value is n")
