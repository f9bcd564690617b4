"""The differential target of frames, by inputs that it once took for findings."""

from __future__ import annotations

import pytest

from bench.trials.fuzz.runner import repeat
from bench.trials.fuzz.streams import frame

FOUND = {"a close code that wsproto does not know, with a reason that is no text": (8, b"\x03\xf6\xff")}


@pytest.mark.parametrize("name", FOUND)
def test_what_readers_may_tell_apart_is_no_finding(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    opcode, payload = FOUND[name]
    repeat("frames", bytes(2) + frame(opcode, payload, masked=True))
    assert "no rule was broken" in capsys.readouterr().out
