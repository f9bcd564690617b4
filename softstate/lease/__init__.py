"""Leases, sans-I/O: the lease table and its timer wheel, spread calculation, the server's side of a session."""

from softstate.lease.effects import (
    DropPending as DropPending,
    Effect as Effect,
    Evict as Evict,
    Part as Part,
    Read as Read,
    ReadHead as ReadHead,
    Replay as Replay,
    Say as Say,
    SayFirst as SayFirst,
    Submit as Submit,
)  # fmt: skip
from softstate.lease.hold import Hold as Hold
from softstate.lease.session import SessionMachine as SessionMachine, State as State
from softstate.lease.spread import Advice as Advice, ServiceRate as ServiceRate, advise as advise
from softstate.lease.table import GRACE as GRACE, Lease as Lease, LeaseTable as LeaseTable, Sink as Sink
from softstate.lease.terms import Terms as Terms
