"""TLS, very small, with real nodes: every figure is there, and sessions are resumed."""

from __future__ import annotations

import shutil

import pytest

from bench.measure.options import Measuring
from bench.measure.report import Report
from bench.speed import tls as module
from bench.speed.tls import PLAIN, RESUMED, TLS, Size, tls

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")


@pytest.fixture(scope="module")
def report() -> Report:
    small = Size(subscribers=4, changes=2, topics=3, bursts=2, connections=5)
    return tls(Measuring(quick=True, rounds_wanted=1), small)


@pytest.mark.timeout(120)
def test_every_figure_of_every_candidate_is_there(report: Report) -> None:
    names = [[row.name for row in table.rows] for table in report.tables]
    assert names == [[PLAIN, TLS], [PLAIN, TLS], [PLAIN, TLS, RESUMED]]
    assert [target.name for target in report.targets] == [
        "deliveries per CPU second, paced",
        "deliveries per CPU second, bursts",
        "handshakes per CPU second",
    ]


@pytest.mark.timeout(120)
def test_a_node_that_is_not_trusted_is_not_measured() -> None:
    with module.nodes() as both:
        stranger = module.Node(both[TLS].server, both[TLS].authority)
        assert stranger.context() is not None
        with pytest.raises(OSError, match=r"(?i)certificate|wrong version|record layer"):
            module.shake(module.Node(both[PLAIN].server, both[TLS].authority), 1)
