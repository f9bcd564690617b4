from __future__ import annotations

import pytest

from softstate.cli.options.sizes import SIZE_BYTES_MAX, parse_size
from softstate.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("1500", 1_500), ("512MiB", 512 * 2**20), ("2GiB", 2**31), ("1.5GB", 1_500_000_000),
        ("64 KiB", 65_536), ("10kB", 10_000), ("1024TiB", SIZE_BYTES_MAX), ("7B", 7),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "memory_max") == size


@pytest.mark.parametrize("text", ["", "-1", "512M", "5iB", "KB", "1e9", "1KB", "1 G B", "two"])
def test_what_is_no_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="memory_max must be a size such as 512MiB"):
        parse_size(text, "memory_max")


def test_a_slip_of_the_keyboard_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 1024TiB"):
        parse_size("1025TiB", "memory_max")
