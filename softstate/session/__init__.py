"""The server's side of one connection, sans-I/O."""

from softstate.session.effects import (
    Close as Close,
    CloseOther as CloseOther,
    DropPending as DropPending,
    Effect as Effect,
    Read as Read,
    ReadHead as ReadHead,
    Replay as Replay,
    Send as Send,
    SendFirst as SendFirst,
    Submit as Submit,
)  # fmt: skip
from softstate.session.gap_buffer import GapBuffer as GapBuffer
from softstate.session.load_advice import NodeTerms as NodeTerms, ServiceRate as ServiceRate, advise as advise
from softstate.session.machine import SessionMachine as SessionMachine
from softstate.session.state import State as State
