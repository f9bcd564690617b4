"""Leases, sans-I/O: the lease table and its timer wheel."""

from softstate.lease.sink import Sink as Sink
from softstate.lease.table import GRACE as GRACE, Lease as Lease, LeaseTable as LeaseTable
