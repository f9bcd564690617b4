"""All fuzzed parsers with a fixed number of inputs, and the fuzzer itself, which must find a planted bug."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from bench.trials.fuzz.minimiser import minimise
from bench.trials.fuzz.parser_targets import JsonTarget
from bench.trials.fuzz.runner import TARGETS, feed, input_of, run_target
from bench.trials.fuzz.target import Target

SEED = 20_260_101
COUNTS = {
    "cbor": 1_000, "json": 2_000, "frames": 1_500, "names": 3_000, "ndjson": 1_500, "config": 30, "machine": 80,
    "http": 60, "websocket": 60, "http1": 3_000, "client-http": 200, "client-ws": 300,
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks(name: str) -> None:
    tally = run_target(TARGETS[name](), SEED, count=COUNTS[name])
    assert tally.finding is None, str(tally.finding)
    assert tally.executions == COUNTS[name]
    assert len(tally.outcomes) > 1 or name == "machine", "inputs that all have one result reach little code"


@pytest.mark.parametrize("name", TARGETS)
def test_the_same_seed_makes_the_same_inputs(name: str) -> None:
    def inputs(seed: int) -> list[bytes]:
        return [input_of(TARGETS[name](), seed, number) for number in range(20)]

    assert inputs(1) == inputs(1)
    assert inputs(1) != inputs(2)


class Planted(JsonTarget):
    """A parser that fails on one byte in some place."""

    async def check(self, data: bytes) -> str:
        if b"{" in data and data.endswith(b"}"):
            raise KeyError("planted")
        return "fine"


class Late(Target):
    """A parser that fails on its third input, which cannot be repeated."""

    name = "late"

    def __init__(self) -> None:
        self.fed = 0

    def make(self, random: Random) -> bytes:
        return random.randbytes(10)

    async def check(self, data: bytes) -> str:
        self.fed += 1
        if self.fed == 3:
            raise KeyError("late")
        return "fine"


def test_a_planted_bug_is_found_minimised_and_can_be_repeated() -> None:
    finding = run_target(Planted(), 1, count=50).finding
    assert finding is not None
    assert finding.data == b"{}"
    assert "KeyError: 'planted'" in finding.error
    assert "repeat('json', b'{}')" in str(finding)
    assert feed(Planted(), [finding.data], Counter())[1] is not None


def test_a_finding_that_cannot_be_repeated_is_reported_unchanged() -> None:
    tally = run_target(Late(), 1, count=50)
    assert tally.executions == 3
    assert tally.finding is not None
    assert tally.finding.data == input_of(Late(), 1, 2)
    assert tally.finding.error.startswith("only together with the inputs before it")


@pytest.mark.parametrize(("tries", "left"), [(1_000, b"ab"), (0, b"xxxaxxxbxxx")])
def test_minimising_keeps_the_failure_and_stops_in_time(tries: int, left: bytes) -> None:
    def fails(data: bytes) -> bool:
        return b"a" in data and b"b" in data

    small = minimise(b"xxxaxxxbxxx", fails, tries)
    assert fails(small)
    assert small == left
