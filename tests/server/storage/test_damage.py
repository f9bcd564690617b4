from __future__ import annotations

import pytest
import structlog.testing

from softstate.model import Record
from softstate.server.storage import damage as damage_module
from softstate.server.storage.damage import Damage


def unreadable(*topics: str) -> list[Record]:
    return [Record(topic, 5, None, unreadable=True) for topic in topics]


def test_a_damaged_topic_is_named_once_with_what_to_do_until_it_is_whole() -> None:
    damage = Damage()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            damage.met(unreadable("a"))
        damage.met([Record("b", 6, b"\x01")])
        assert len(damage) == 1
        damage.met([Record("a", 7, b"\x01")])
        assert len(damage) == 0
        damage.met(unreadable("a"))
    events = [(line["event"], line["topic"], line["version"]) for line in logs]
    bad = ("record is unreadable", "a", 5)
    assert events == [bad, ("record is readable again", "a", 7), bad]
    assert "softstate store check" in logs[0]["mend"]
    assert "publish" in logs[0]["mend"]


def test_more_topics_than_are_remembered_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage_module, "TOPICS_MAX", 2)
    damage = Damage()
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            damage.met(unreadable("a", "b", "c", "d"))
        assert len(damage) == 2
    assert [line.get("topic") for line in logs] == ["a", "b", None]
    damage.forget()
    with structlog.testing.capture_logs() as logs:
        damage.met(unreadable("c"))
    assert [line["topic"] for line in logs] == ["c"]
