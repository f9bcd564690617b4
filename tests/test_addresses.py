from __future__ import annotations

import pytest

from softstate.addresses import address_of, network_of


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("10.0.0.1:5000", "10.0.0.1"),
        ("::1:5000", "::/64"),
        ("2001:db8:1:2:3:4:5:6:5000", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::7:5000", "2001:db8:1:2::/64"),
        ("fe80::1%eth0:5000", "fe80::/64"),
        ("::ffff:10.0.0.1:5000", "10.0.0.1"),
        ("host-a:5000", "host-a"),
        ("a stream", "a stream"),
    ],
)
def test_a_peer_stands_for_its_household(peer: str, network: str) -> None:
    assert network_of(address_of(peer)) == network
