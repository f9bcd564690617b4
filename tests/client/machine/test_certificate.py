"""The certificate of a name: which combinations of evidence and doubt occur, and what each event makes of them."""

from __future__ import annotations

import math
from copy import copy

import pytest

from softstate.client.machine.certificate import AFTER, LEGAL, Certificate, CertificateEvent, Doubt, Evidence

E = CertificateEvent
LEASE = 7
COMBINATIONS = [(evidence, doubt) for evidence, doubts in LEGAL.items() for doubt in doubts]


def after(certificate: Certificate, event: CertificateEvent, serial: int) -> Certificate:
    """Return what becomes of a certificate; requests, and events that name one, are numbered by `serial`."""
    changed = copy(certificate)
    match event:
        case E.ANSWERED:
            assert changed.answered(serial, LEASE, serial, float(serial))
        case E.RENEWED:
            changed.renewed(serial, LEASE, serial, float(serial))
        case E.DOUBTED:
            changed.doubted(serial)
        case E.COMPACTED:
            changed.compacted(serial)
        case E.RESUMED:
            changed.resumed(serial, LEASE)
        case E.RESET:
            changed.reset()
    return changed


def reachable() -> dict[tuple[Evidence, Doubt], Certificate]:
    """Walk from a new name through all events; return one certificate of each combination."""
    first = Certificate("a", added=0, lease=LEASE)
    found = {(first.evidence, first.doubt): first}
    todo, serial = [first], 1
    while todo:
        certificate = todo.pop()
        for event in CertificateEvent:
            serial += 1
            changed = after(certificate, event, serial)
            if (changed.evidence, changed.doubt) not in found:
                found[changed.evidence, changed.doubt] = changed
                todo.append(changed)
    return found


def test_the_combinations_that_occur_are_those_of_the_table() -> None:
    assert set(reachable()) == set(COMBINATIONS)


@pytest.mark.parametrize("event", CertificateEvent)
@pytest.mark.parametrize("combination", COMBINATIONS)
def test_each_event_does_what_the_table_says(combination: tuple[Evidence, Doubt], event: CertificateEvent) -> None:
    certificate = reachable()[combination]
    changed = after(certificate, event, serial=10_000)
    evidences, doubts = AFTER[event]
    if combination[1] in doubts:
        assert (changed.evidence, changed.doubt) == (evidences[combination[0]], doubts[combination[1]])
    else:
        assert changed == certificate


def test_the_table_is_complete() -> None:
    assert set(AFTER) == set(CertificateEvent)
    assert all(set(evidences) == set(Evidence) for evidences, _ in AFTER.values())
    assert [event for event, (_, doubts) in AFTER.items() if set(doubts) != set(Doubt)] == [E.RENEWED]


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_the_age_is_finite_only_with_complete_evidence(combination: tuple[Evidence, Doubt]) -> None:
    certificate = reachable()[combination]
    assert (certificate.asof > -math.inf) == (combination[0] is Evidence.COMPLETE)
    assert (certificate.revision is None) == (combination[0] is Evidence.NONE)
    assert certificate.lists == (combination[1] in (Doubt.HISTORY, Doubt.LISTING))


def test_nothing_sent_before_a_doubt_or_before_the_name_came_certifies() -> None:
    certificate = Certificate("a", added=5)
    assert not certificate.answered(5, LEASE, 9, 9.0)
    assert certificate.lease == 0
    certificate.doubted(8)
    assert not certificate.answered(8, LEASE, 9, 9.0)
    assert (certificate.lease, certificate.evidence) == (LEASE, Evidence.NONE)
    assert certificate.answered(9, 0, 9, 9.0)
    assert (certificate.lease, certificate.evidence, certificate.doubt) == (LEASE, Evidence.COMPLETE, Doubt.NONE)


def test_a_renewal_certifies_names_of_its_own_lease_only() -> None:
    certificate = Certificate("a", added=0, lease=LEASE - 1)
    certificate.renewed(9, LEASE, 9, 9.0)
    assert certificate.evidence is Evidence.NONE


def test_a_certificate_never_goes_back() -> None:
    certificate = Certificate("a", added=0)
    certificate.answered(1, LEASE, 9, 9.0)
    certificate.answered(2, LEASE, 8, 8.0)
    assert (certificate.revision, certificate.asof) == (9, 9.0)
