"""Carrying out what a revoke command was asked for, and saying what is revoked, from when, until when, and where."""

from __future__ import annotations

import math

from softstate.auth.revocations import Revocation
from softstate.cli import exit_codes
from softstate.cli.commands.revoke.options import time_text
from softstate.cli.commands.revoke.publishing import Nodes, reaches_further, revoke
from softstate.cli.terminal.fields import print_fields
from softstate.cli.terminal.values import line_text

STATIC_NEXT = "take its lines out of the policy file of every node; then this may be undone"


async def carry_out(wanted: Revocation, what: str, nodes: Nodes, *, printed: bool, then: str = "") -> int:
    """Revoke, and say so; or only print what to write. `what` names it for people, `then` what to do next."""
    if printed:
        print(f"{wanted.topic}\t{line_text(wanted.value())}")
        return exit_codes.OK
    found = await revoke(wanted, nodes)
    fields = {"revoked": what, "issued": _issued(found), "until": time_text(found.until)}
    if found.reason:
        fields["reason"] = found.reason
    fields["topic"] = found.topic
    if reaches_further(found, wanted):
        fields["kept"] = "what an earlier revocation says that reaches further"
    if then:
        fields["next"] = then
    print_fields(fields, json=False)
    return exit_codes.OK


def _issued(revocation: Revocation) -> str:
    if math.isinf(revocation.before):
        return "at any time"
    return f"before {time_text(revocation.before)}; what is issued later is good"
