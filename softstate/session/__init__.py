"""The server's side of one connection, sans-I/O.

`machine` takes messages, answers of the store and decisions of the node, looks each up in `table`, and returns
`effects`. The rules are functions on the session's `state`: `greeting`, `subscription`, `renewal`, `beats`, `poll`,
`publish`, `credentials` and `termination`; `permission` says what its identity may read, and `gate` what the node knows
of credentials. `request` is what is under way, `gap_buffer` what is held back meanwhile; `load_advice` is for all
sessions of a node together.
"""

from softstate.session.effects import (
    Close as Close,
    CloseOther as CloseOther,
    DropPending as DropPending,
    DropUncovered as DropUncovered,
    Effect as Effect,
    Inquire as Inquire,
    Read as Read,
    ReadHead as ReadHead,
    Replay as Replay,
    Send as Send,
    SendAhead as SendAhead,
    SendFirst as SendFirst,
    SetBeat as SetBeat,
    Submit as Submit,
    Turn as Turn,
)  # fmt: skip
from softstate.session.gap_buffer import GapBuffer as GapBuffer
from softstate.session.gate import OPEN_GATE as OPEN_GATE, Gate as Gate
from softstate.session.load_advice import (
    ExpectedPolls as ExpectedPolls,
    MeasuredRequest as MeasuredRequest,
    NodeTerms as NodeTerms,
    ServiceRate as ServiceRate,
    advise as advise,
)
from softstate.session.machine import SessionMachine as SessionMachine
from softstate.session.state import State as State
