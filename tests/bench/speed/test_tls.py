"""TLS, very small, with real nodes: every figure is there, and sessions are resumed."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

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
def test_a_node_that_is_not_trusted_or_speaks_no_tls_is_not_measured(tmp_path: Path) -> None:
    stranger = tmp_path / "cert.pem"
    module.make_certificate("openssl", stranger, tmp_path / "key.pem")
    with module.nodes() as both:
        with pytest.raises(ssl.SSLCertVerificationError):
            module.shake(module.Node(both[TLS].server, str(stranger)), 1)
        with pytest.raises(ssl.SSLError, match=r"(?i)wrong version|record layer"):
            module.shake(module.Node(both[PLAIN].server, both[TLS].authority), 1)
