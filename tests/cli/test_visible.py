"""Text of others on a terminal: nothing that it obeys, hides or reorders."""

import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from softstate.cli import _complain, run
from softstate.cli.commands.watch import json_line, plain_line
from softstate.cli.options.store_urls import plain
from softstate.cli.terminal.announcement import announcement
from softstate.cli.terminal.fields import print_fields
from softstate.cli.terminal.values import json_text, line_text, value_of
from softstate.cli.visible import for_programs, visible
from softstate.client.machine.events import NodeRefused, TopicsUnreadable
from softstate.errors import Denied
from softstate.model import Change

HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")

ODD = [
    "\x1b[2J", "\x07", "\x7f", "\x9b31m", "\x85", "\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\u2028", "\u2029",
    "\xad", "\ue000", "\uffff", "\U000e0001", "\U0010ffff", "\u0378", "\r", "\n", "\t", "\0", "\u061c", "\ufff9",
]  # fmt: skip


def is_safe(text: str) -> bool:
    return not any(unicodedata.category(character) in HIDDEN for character in text)


@given(st.text())
def test_what_is_shown_is_safe_and_still_the_same_json(text: str) -> None:
    shown = visible(json.dumps(text, ensure_ascii=False))
    assert is_safe(shown)
    assert json.loads(shown) == text


@given(st.text(alphabet=st.characters(exclude_categories=["C", "Zl", "Zp"])))
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert visible(text) == text
    assert for_programs(text) == text


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_for_programs_says_the_same(value: Any) -> None:
    line = line_text({"value": value})
    assert json.loads(line) == {"value": value}
    assert not [character for character in line if "\x7f" <= character <= "\x9f" or character in "\u2028\u2029\n\r"]
    assert len(line.splitlines()) == 1


def test_the_form_of_an_escape() -> None:
    assert visible("a\x1bb") == r"a\u001bb"
    assert visible("\x9b") == r"\u009b"
    assert visible("\u202e") == r"\u202e"
    assert visible("\U000e0001") == r"\udb40\udc01"
    assert visible("f\xfcr \U0001f600 \u4e2d") == "f\xfcr \U0001f600 \u4e2d"
    assert line_text({"a": "\x7f\x80\x9f\xa0"}) == '{"a":"\\u007f\\u0080\\u009f\xa0"}'


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_every_place_where_people_read(odd: str, capsys: pytest.CaptureFixture[str]) -> None:
    change = Change(f"a{odd}b", 7, {f"k{odd}": [f"v{odd}"]})
    assert is_safe(plain_line(change, "live", 0.0))
    assert is_safe(plain_line(TopicsUnreadable((f"a{odd}",)), "live", 0.0))
    assert is_safe(plain_line(NodeRefused("ws://n", Denied(f"no{odd}")), "live", 0.0))
    assert is_safe(json_text(change.value))
    assert is_safe(announcement(["127.0.0.1:1"], "role", f"sqlite:{odd}", "durable", 1))
    assert is_safe(plain(f"sqlite:{odd}"))
    print_fields({f"k{odd}": f"v{odd}", "list": [odd], "map": {"x": odd}}, json=False)
    assert _complain(f"the node says {odd}, twice", 2) == 2
    output = capsys.readouterr()
    assert output.out.count("\n") == 3
    assert output.err.count("\n") == 1
    assert is_safe(output.out.replace("\n", "") + output.err.replace("\n", ""))
    line = json_line(change, "live", 0.0)
    assert json.loads(line)["topic"] == change.topic


def test_a_mistake_on_the_command_line_is_shown_safely(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["get", "\x1b]0;x\x07"], ["get", "a", "--\x1b[2J"], ["\x9bm"]):
        assert run(words) == 2
        assert is_safe(capsys.readouterr().err.rstrip("\n"))


def test_a_value_with_a_byte_order_mark_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert value_of('\ufeff{"a":1}') == {"a": 1}
    assert value_of(b'\xef\xbb\xbf"x"') == "x"
    (tmp_path / "value").write_bytes(b"\xff")
    with (tmp_path / "value").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert run(["publish", "a", "-"]) == 2
