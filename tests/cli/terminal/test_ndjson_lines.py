"""Reading files of changes: valid lines, errors for others, gzip, resuming."""

from __future__ import annotations

import codecs
import errno
import gzip
import os
import tracemalloc
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from softstate.cli.terminal.ndjson_lines import CHUNK_BYTES, LINE_BYTES_MAX, BadLine, ChangeFile, Line, read_line


def read(path: Path, from_line: int = 1) -> list[Line]:
    found: list[Line] = []
    with path.open("rb") as raw:
        file = ChangeFile(raw, from_line)
        while (batch := file.batch()) is not None:
            found += batch
        assert file.bytes_read == path.stat().st_size
    return found


def test_changes_and_deletions_in_order(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(
        b'{"topic":"a/b","value":{"x":1},"at":12}\n\n{"topic":"a/b","deleted":true}\n{"value":{"$bytes":"AAE="},"topic":"c"}'
    )
    assert [(line.number, line.topic, line.value, line.deleted) for line in read(path)] == [
        (1, "a/b", {"x": 1}, False),
        (3, "a/b", None, True),
        (4, "c", b"\x00\x01", False),
    ]


def test_null_is_a_value(tmp_path: Path) -> None:
    assert read_line(1, b'{"topic":"a","value":null}').deleted is False


@pytest.mark.parametrize("from_line", [1, 2, 700, 1500, 1501])
@pytest.mark.parametrize("packed", [False, True])
def test_gzip_is_recognised_and_lines_are_counted_across_pieces(tmp_path: Path, packed: bool, from_line: int) -> None:
    data = b"".join(b'{"topic":"t%d","value":"%s"}\n' % (n, b"x" * 100) for n in range(1, 1501))
    assert len(data) > 2 * CHUNK_BYTES
    path = tmp_path / "f"
    path.write_bytes(gzip.compress(data) if packed else data)
    lines = read(path, from_line)
    assert [line.number for line in lines] == list(range(from_line, 1501))
    assert all(line.topic == f"t{line.number}" for line in lines)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"nonsense", "not a change in JSON"),
        (b"[1]", "not a change in JSON"),
        (b'{"value":1}', "missing required field `topic`"),
        (b'{"topic":7,"value":1}', "topic must be text"),
        (b'{"topic":"a//b","value":1}', "empty"),
        (b'{"topic":"a"}', "needs either"),
        (b'{"topic":"a","value":1,"deleted":true}', "needs either"),
        (b'{"topic":"a","deleted":1}', "deleted must be true or false"),
        (b'{"topic":"a","value":99999999999999999999}', "64 bits"),
        (b'{"topic":"a","value":{"$bytes":7}}', "base64"),
        (b'{"topic":"a","value":"\xff"}', "not a change in JSON"),
        (b" " * (LINE_BYTES_MAX + 1), "longer than"),
    ],
)
def test_bad_lines_are_named(text: bytes, reason: str) -> None:
    with pytest.raises(BadLine, match=r"^line 7: ") as caught:
        read_line(7, text)
    assert reason in str(caught.value)
    assert caught.value.number == 7


def test_what_comes_before_a_bad_line_is_yielded(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b'{"topic":"a","value":1}\noops\n{"topic":"b","value":1}\n')
    with path.open("rb") as raw:
        batch = ChangeFile(raw).batch()
        assert batch is not None
        assert next(batch).topic == "a"
        with pytest.raises(BadLine, match="line 2"):
            next(batch)


def test_a_line_without_end_is_not_collected_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * (LINE_BYTES_MAX + 3 * CHUNK_BYTES))
    with pytest.raises(BadLine, match="longer than"):
        read(path)


LONG = LINE_BYTES_MAX + 5 * CHUNK_BYTES
"""Bytes of a line that is too long by several pieces of the file."""


@pytest.mark.parametrize("long", [b"x" * LONG, b" " * LONG, b'{"topic":"a","value":"' + b"x" * LONG + b'"}'])
@pytest.mark.parametrize("packed", [False, True])
def test_a_long_line_is_one_line(long: bytes, packed: bool, tmp_path: Path) -> None:
    """It counted once for each piece of the file, so that a run which was resumed began too early."""
    data = b'{"topic":"a","value":1}\n' + long + b'\n{"topic":"b","value":1}\n{"topic":"c","value":1}\n'
    path = tmp_path / "f"
    path.write_bytes(gzip.compress(data) if packed else data)
    with path.open("rb") as raw:
        file, found = ChangeFile(raw), list[Line]()
        with pytest.raises(BadLine, match=f"line 2: longer than {LINE_BYTES_MAX} bytes"):
            while (batch := file.batch()) is not None:
                found += batch
        assert [line.topic for line in found] in ([], ["a"])  # of one batch with the long line, or of one before it
        assert file.batch() is None
    assert [(line.number, line.topic) for line in read(path, 3)] == [(3, "b"), (4, "c")]
    assert [(line.number, line.topic) for line in read(path, 4)] == [(4, "c")]


def test_a_line_that_is_skipped_is_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with path.open("wb") as file:
        file.truncate(64 * LINE_BYTES_MAX)  # all of it NUL
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"topic":"b","value":1}')
    tracemalloc.start()
    try:
        assert [(line.number, line.topic) for line in read(path, 2)] == [(2, "b")]
        assert tracemalloc.get_traced_memory()[1] < LINE_BYTES_MAX
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_the_longest_line_is_read_behind_a_byte_order_mark_too(mark: bytes, tmp_path: Path) -> None:
    begin, end = b'{"topic":"a","value":"', b'"}'
    line = begin + b"x" * (LINE_BYTES_MAX - len(begin + end)) + end
    path = tmp_path / "f"
    path.write_bytes(mark + line + b"\n" + line)
    assert [found.number for found in read(path)] == [1, 2]


@pytest.mark.parametrize("cut", [0.5, 0.99])
def test_a_damaged_gzip_file_is_named_as_such(tmp_path: Path, cut: float) -> None:
    packed = gzip.compress(
        b"".join(b'{"topic":"a","value":"%s"}\n' % os.urandom(30).hex().encode() for _ in range(4000))
    )
    path = tmp_path / "f"
    path.write_bytes(packed[: int(len(packed) * cut)])
    with pytest.raises(BadLine, match="damaged"):
        read(path)


def test_an_empty_file_has_no_changes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"")
    assert read(path) == []


def test_a_key_stands_for_one_line_of_one_run() -> None:
    line = read_line(3, b'{"topic":"a","value":1}')
    assert line.key("r") == read_line(3, b'{"topic":"a","value":1}').key("r")
    others = [
        line.key("s"),
        read_line(4, b'{"topic":"a","value":1}').key("r"),
        read_line(3, b'{"topic":"a","value":2}').key("r"),
    ]
    assert line.key("r") not in others


@pytest.mark.parametrize("key", ["value", "other"])
def test_a_line_nested_too_deep_is_refused_by_number(key: str) -> None:
    """Found by fuzzing: it was a RecursionError."""
    with pytest.raises(BadLine, match="line 7: nested too deep"):
        read_line(7, b'{"topic":"a","%b":' % key.encode() + b"[" * 50_000)


class Failing:
    """A file of which `good` bytes can be read, as of a disk with a bad sector."""

    def __init__(self, good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        self._good = good
        monkeypatch.setattr(os, "read", self._read)

    def fileno(self) -> int:
        return -1

    def _read(self, _fd: int, count: int) -> bytes:
        if not self._good:
            raise OSError(errno.EIO, "Input/output error")
        data, self._good = self._good[:count], self._good[count:]
        return data


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_fails_while_it_is_read_is_told_by_its_line(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"".join(b'{"topic":"t%d","value":%d}\n' % (n, n) for n in range(1, 4)) + b'{"topic":'
    good = gzip.compress(data)[:-8] if packed else data
    file = ChangeFile(cast("BinaryIO", Failing(good, monkeypatch)))
    found: list[Line] = []
    with pytest.raises(BadLine) as failed:
        while (batch := file.batch()) is not None:
            found += batch
    reason = "the file cannot be read from here on (Input/output error)"
    assert failed.value.message == f"line {len(found) + 1}: {reason}"
    assert [line.number for line in found] == ([] if packed else [1, 2, 3])


def test_a_file_that_cannot_be_read_at_all_is_told_when_it_is_read() -> None:
    with Path("/proc/self/mem").open("rb") as raw:
        file = ChangeFile(raw)
        with pytest.raises(BadLine, match=r"line 1: the file cannot be read from here on \(Input/output error\)"):
            file.batch()
