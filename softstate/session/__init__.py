"""The server's side of one connection, sans-I/O."""

from softstate.session.effects import (
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
from softstate.session.gap_buffer import Hold as Hold
from softstate.session.load_advice import Advice as Advice, ServiceRate as ServiceRate, advise as advise
from softstate.session.machine import SessionMachine as SessionMachine, State as State
from softstate.session.terms import Terms as Terms
