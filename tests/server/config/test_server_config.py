from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest

from softstate.errors import ConfigError
from softstate.server.config import ServerConfig
from softstate.server.config.bounds import NUMBER_MAX, above, at_least, between
from softstate.server.config.server_config import ENVELOPE_BYTES, SETTINGS

NUMBERS = [setting for setting in SETTINGS if setting.bound is not None]


def refusal(**options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        replace(ServerConfig(), **options).check()
    return str(caught.value)


def test_the_defaults_are_allowed() -> None:
    assert ServerConfig().check() == ServerConfig()


def test_every_number_has_a_bound_and_every_field_a_sentence() -> None:
    assert len(SETTINGS) == len(fields(ServerConfig))
    for setting in SETTINGS:
        assert setting.text[0].isupper() or setting.name == "role", setting.name
        assert setting.text.endswith("."), setting.name
        assert (setting.bound is not None) == (setting.type in (int, float)), setting.name


@pytest.mark.parametrize("name", [setting.name for setting in NUMBERS])
def test_a_number_below_its_bound_is_refused_by_name(name: str) -> None:
    (setting,) = [setting for setting in NUMBERS if setting.name == name]
    assert refusal(**{name: -1}).startswith((f"{setting.option} must be", f"{setting.option}: the {name} must be"))


@pytest.mark.parametrize("name", [setting.name for setting in NUMBERS if setting.type is float])
def test_a_number_must_be_finite_and_exact(name: str) -> None:
    assert "must be a finite number, not nan" in refusal(**{name: math.nan})
    assert "must be a finite number, not inf" in refusal(**{name: math.inf})
    assert f"must be at most {NUMBER_MAX}" in refusal(**{name: 2.0**54})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ttl_ms": 999}, "ttl must be 1000 ms to 86400000 ms, not 999 ms"),
        ({"ttl_ms": 86_400_001}, "ttl must be 1000 ms to 86400000 ms, not 86400001 ms"),
        ({"port": 65_536}, "listen: the port must be 0 to 65535, not 65536"),
        ({"pending_max": 0}, "pending_max must be above 0, not 0"),
        ({"ui_nodes": ("http://b",)}, "ui_node is of no use without --ui"),
        (
            {"ui": True, "ui_nodes": ("b:1",)},
            "ui_node must be such as http://127.0.0.1:8701, without a path, not 'b:1'",
        ),
        ({"drain_s": -0.5}, "drain must be at least 0 s, not -0.5 s"),
        ({"tombstone_s": -1.0}, "tombstone_s must be at least 0, not -1.0"),
        ({"keys_max": 10**400}, f"keys_max must be at most {NUMBER_MAX}"),
        (
            {"message_bytes_max": 65_536 + ENVELOPE_BYTES - 1},
            "message_bytes_max must be at least value_bytes_max + 1024: a message carries a value",
        ),
    ],
)
def test_a_refusal_names_the_option_and_the_limit(options: dict[str, Any], words: str) -> None:
    assert refusal(**options) == words


@pytest.mark.parametrize(
    "options",
    [{"ttl_ms": 1_000}, {"ttl_ms": 86_400_000}, {"port": 0}, {"port": 65_535}, {"drain_s": 0}, {"tombstone_s": 0},
     {"pending_max": 1}, {"keys_max": NUMBER_MAX}, {"message_bytes_max": 65_536 + ENVELOPE_BYTES}],
)  # fmt: skip
def test_a_bound_itself_is_allowed(options: dict[str, Any]) -> None:
    config = ServerConfig(**options)
    assert config.check() is config


def test_bounds_say_what_they_are() -> None:
    assert [above(0).text(), at_least(1).text(), between(2, 3).text()] == ["above 0", "at least 1", "2 to 3"]
    assert between(2, 3).text(lambda number: f"{number}s") == "2s to 3s"


def test_no_log_gets_the_store_which_may_hold_a_password() -> None:
    assert "secret" not in repr(ServerConfig(store="redis://user:secret@host"))
