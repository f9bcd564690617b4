"""The line of JSON in which a driver tells everything: read, or refused."""

from __future__ import annotations

import json
import math

import pytest

from bench.peers.clients.records import Age, Held, Told, noted_of

LINE = """
{"dials": [1, 2.5],
 "applications": [{"values": {"still": [[1.5, 7], [2.0, 9]]}, "ages": [[1.5, 0.25], [1.6, null]],
                   "told": [[1.0, "connecting", false, null], [1.2, "subscribed", true, "still"],
                            [1.3, "pong", null, null]]}]}
"""


def test_a_line_is_read() -> None:
    noted = noted_of(json.loads(LINE))
    (application,) = noted.applications
    assert noted.dials == [1.0, 2.5]
    assert application.values == {"still": [Held(1.5, 7), Held(2.0, 9)]}
    assert application.ages == [Age(1.5, 0.25), Age(1.6, math.inf)]
    assert application.told == [
        Told(1.0, "connecting", False),
        Told(1.2, "subscribed", True, "still"),
        Told(1.3, "pong", None),
    ]


@pytest.mark.parametrize("line", ["{}", '{"applications": [{}], "dials": []}', '{"applications": null, "dials": []}'])
def test_another_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="did not answer with what its applications noted"):
        noted_of(json.loads(line))
