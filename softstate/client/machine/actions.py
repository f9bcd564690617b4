"""The actions that the table's rows name. Each is a function of the machine's parts and of what the trigger carried."""

from __future__ import annotations

import math
from dataclasses import dataclass

from softstate.client.machine.events import Reset, Stopped
from softstate.client.machine.poll_path import PollPath
from softstate.client.machine.publish_path import PublishPath
from softstate.client.machine.push_path import PushPath
from softstate.client.machine.retry_budget import RetryBudget
from softstate.client.machine.state import Cause, Core
from softstate.errors import ClientClosed, SoftstateError

HTTP_PUBLISH_AFTER_S = 1.0
"""How long publishes wait for the first connection before they go over HTTP."""

CLOSED_UNSENT = "the client was closed while this publish was waiting: it was not applied"

CLOSED_SENT = "the client was closed while this publish was in flight: it may have been applied"

WORTH = 0.5
"""A client polls before it connects if the connection is due later than this part of the time waited for an answer."""


@dataclass(slots=True)
class Parts:
    """The parts of a machine that actions work on."""

    core: Core
    push: PushPath
    poll: PollPath
    publishes: PublishPath
    retries: RetryBudget


# Connecting ----------------------------------------------------------------------------------------------------------


def connect(parts: Parts, _: Cause) -> None:
    """Open the first connection now; publishes wait for it for a while."""
    parts.publishes.wait_until = parts.core.now + HTTP_PUBLISH_AFTER_S
    parts.push.connect_at = parts.core.now


def reconnect_spread(parts: Parts, _: Cause) -> None:
    """Reconnect at a random time within the spread that nodes advised before."""
    if parts.core.options.push:
        parts.push.reconnect(parts.core.advice.recover_spread_s)


def reconnect_after_bye(parts: Parts, cause: Cause) -> None:
    """Reconnect at a random time within the spread that the node's `bye` gave, after the wait that it asked for."""
    parts.push.rotation.not_before = parts.core.now + cause.retry_s
    parts.push.reconnect(cause.spread_s)


def back_off(parts: Parts, cause: Cause) -> None:
    """Try the next URL, after a backoff if all have failed; count the failure."""
    parts.push.back_off(cause)
    parts.core.path_failed(parts.push.rotation)


def reset_backoff(parts: Parts, _: Cause) -> None:
    """Begin backoffs at their shortest again: this URL works."""
    parts.push.rotation.succeeded()


def leave(parts: Parts, _: Cause) -> None:
    """Leave the connection, if there is one."""
    parts.push.leave()


def say_goodbye(parts: Parts, _: Cause) -> None:
    """Release the lease."""
    parts.push.say_goodbye()


# The lease -----------------------------------------------------------------------------------------------------------


def subscribe_all(parts: Parts, _: Cause) -> None:
    """Subscribe the whole set, in place of what the lease holds."""
    parts.push.subscribe_all()


def subscribe_new(parts: Parts, _: Cause) -> None:
    """Subscribe, in a new session, what was not subscribed behind hello."""
    parts.push.subscribe_new()


def renew_resumed(parts: Parts, _: Cause) -> None:
    """Renew, unless that was asked for behind hello."""
    parts.push.renew_resumed()


def renew_once_more(parts: Parts, _: Cause) -> None:
    """Renew after a miss: this renewal alone decides."""
    parts.push.renew_once_more()


def renew_later(parts: Parts, _: Cause) -> None:
    """Renew after a backoff instead of a full interval."""
    parts.push.renew_later()


def await_lease(parts: Parts, cause: Cause) -> None:
    """Wait on the open connection until it is time to subscribe again."""
    parts.push.await_lease(cause.retry_s, cause.spread_s)


# Credentials ---------------------------------------------------------------------------------------------------------


def fetch_token(parts: Parts, _: Cause) -> None:
    """Fetch a token, unless that is under way."""
    parts.core.credentials.fetch()


def hold_paths(parts: Parts, _: Cause) -> None:
    """Begin nothing on any path until there is another token."""
    parts.core.credentials.held = True
    parts.poll.abandon()


def release_paths(parts: Parts, cause: Cause) -> None:
    """Go on after `hold_paths`: poll, and connect if there is no connection."""
    core = parts.core
    if not core.credentials.held:
        return
    core.credentials.held = False
    if core.options.push and parts.push.connection is None:
        parts.push.connect_at = core.now
    if core.mode == "connecting":
        poll_early(parts, cause)
    else:
        poll_now(parts, cause)


def leave_refused(parts: Parts, _: Cause) -> None:
    """Leave the connection, unless it waits for credentials: what was sent before is refused, too."""
    if not parts.push.awaits_credentials:
        parts.push.leave()


def await_credentials(parts: Parts, _: Cause) -> None:
    """Keep the connection, whose lease is over, until other credentials were presented on it."""
    parts.push.await_credentials()


def present_token(parts: Parts, _: Cause) -> None:
    """Present the token on the connection, if there is one that is open."""
    parts.push.present_token()


# Polling -------------------------------------------------------------------------------------------------------------


def poll_now(parts: Parts, _: Cause) -> None:
    """Poll now."""
    parts.poll.schedule(parts.core.now)


def poll_reset(parts: Parts, _: Cause) -> None:
    """Poll after a reset: now, or after a backoff if the reset before has brought the set no age (P-CLI-4).

    Nodes of two stores behind one URL would reset a client with every answer, as fast as it asks.
    """
    core = parts.core
    tries, wait_s = core.knowledge.resets - 2, 0.0
    if tries >= 0:
        wait_s = core.advice.pause_s(core.random, tries, core.advice.poll_spread_s)
    parts.poll.schedule(core.now + wait_s)


def poll_soon(parts: Parts, _: Cause) -> None:
    """Poll at a random time within the spread that nodes advised."""
    parts.poll.schedule(parts.core.spread(parts.core.advice.poll_spread_s))


def poll_early(parts: Parts, _: Cause) -> None:
    """Poll if no connection has come to be after a quarter of the time for which an answer is waited for.

    If the connection fails before, it is polled then. Polling at once would fetch a large set twice.
    """
    parts.poll.schedule(parts.core.now + parts.core.patience_s())


def poll_before_connecting(parts: Parts, _: Cause) -> None:
    """Poll soon if the connection is to come much later; else leave it to the connection, and poll if that takes long.

    A poll costs the node a third of a connect: before a connection that comes soon it would be load for nothing, and
    before one that waits for its place in a long spread it makes the client fresh early (P-CLI-14).
    """
    core, due = parts.core, parts.push.connect_at
    if not core.options.push or due - core.now > WORTH * core.answer_s:
        parts.poll.schedule(core.spread(core.advice.poll_spread_s))
    else:
        parts.poll.schedule(due + core.patience_s())


def avoid_connected(parts: Parts, _: Cause) -> None:
    """Have the next poll ask another node, if there is one: the one that is connected keeps silent."""
    if parts.push.connection is not None:
        parts.poll.avoid(parts.push.connection.url)


def poll_uncertain(parts: Parts, cause: Cause) -> None:
    """Poll, on the connection, the names that cover a topic of which a change may be missing."""
    parts.push.poll_uncertain(cause.names, cause.version)


def stop_polling(parts: Parts, _: Cause) -> None:
    """Poll no more."""
    parts.poll.stop()


# Offline -------------------------------------------------------------------------------------------------------------


def share_retry_budget(parts: Parts, _: Cause) -> None:
    """Have both paths share one retry budget."""
    parts.retries.share()


def resume_paths(parts: Parts, _: Cause) -> None:
    """Give both paths their own retry budgets again."""
    parts.retries.resume_paths()


# History, the end ----------------------------------------------------------------------------------------------------


def reset(parts: Parts, cause: Cause) -> None:
    """Begin in another history: no earlier answer counts any more."""
    assert cause.position is not None, "a reset names the position to begin at"
    core = parts.core
    core.knowledge.reset(cause.position)
    parts.poll.abandon()
    parts.push.rebase(cause.position)
    core.counts["resets"] += 1
    core.act(Reset(cause.position))


def stop(parts: Parts, cause: Cause) -> None:
    """Stop for good, and raise the cause to the application; publishes that may have been applied are told apart."""
    assert cause.error is not None, "what forbids going on says why"
    parts.core.stopped_by = cause.error
    _end(parts, cause.error)
    parts.core.act(Stopped(cause.error))


def settle_closed(parts: Parts, _: Cause) -> None:
    """Settle what is left: the application closes the client."""
    parts.core.stopped_by = None
    _end(parts, ClientClosed(CLOSED_UNSENT), ClientClosed(CLOSED_SENT))


def _end(parts: Parts, error: SoftstateError, if_sent: SoftstateError | None = None) -> None:
    core = parts.core
    parts.push.connect_at = math.inf
    parts.publishes.stop()
    core.failures = 0
    core.act(*core.queue.settle_all(error, if_sent))
