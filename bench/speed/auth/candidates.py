"""The nodes of this bench, and the figures that their comparisons share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.measure.permissions import Permissions, checking_node
from bench.measure.report import Report, Target
from bench.measure.rounds import Rounds
from bench.measure.servers import Server, softstate_server

OPEN = "without --auth"
"""The baseline: a node that checks no credentials, to which none are presented."""
CHECKING = "with --auth"
IGNORING = "without --auth, sent tokens"
"""The node that checks none, and ignores those that it is sent: what only longer requests cost."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """A node that checks credentials and one that does not, and the tokens for the former."""

    open: Server
    checking: Server
    permissions: Permissions

    def sides(self) -> dict[str, tuple[Server, str]]:
        """Return each node by the name of its candidate, with a token to present, new at each call; "" for none."""
        return {OPEN: (self.open, ""), CHECKING: (self.checking, self.permissions.load_token())}


@contextmanager
def both_nodes(made: Permissions) -> Iterator[Nodes]:
    """Run both nodes, each on a durable store of its own."""
    with ExitStack() as stack:
        yield Nodes(stack.enter_context(softstate_server()), stack.enter_context(checking_node(made)), made)


def judge_within(report: Report, name: str, result: Rounds, figure: str, off: float) -> None:
    """Judge that a figure of the node with --auth is that of the other, give or take a part of it."""
    ratio = result.ratio(CHECKING, OPEN, figure)
    wanted = f"1 ± {off:g} x {OPEN}"
    report.targets.append(Target(name, wanted, ratio.text(3), abs(ratio.median - 1) <= off))
