/** The actions that the table's rows name. Each is a function of the machine's parts and of what the trigger carried. */

import { SoftstateError } from "./errors.js";

/** How long publishes wait for the first connection before they go over HTTP. */
const HTTP_PUBLISH_AFTER_S = 1;
/** A client polls before it connects if the connection is due later than this part of the time waited for an answer. */
const WORTH = 0.5;
const CLOSED_UNSENT = "the client was closed while this publish was waiting: it was not applied";
const CLOSED_SENT = "the client was closed while this publish was in flight: it may have been applied";

/**
 * @typedef {{core: import("./core.js").Core, push: import("./push_path.js").PushPath,
 *   poll: import("./poll_path.js").PollPath, publishes: import("./publish_path.js").PublishPath,
 *   retries: import("./retry_budget.js").RetryBudget}} Parts
 * @typedef {import("./core.js").Cause} Cause
 */

/** @type {Record<string, (parts: Parts, cause: Cause) => void>} */
export const ACTIONS = {
  // Connecting

  connect({ core, push, publishes }) {
    publishes.waitUntil = core.now + HTTP_PUBLISH_AFTER_S;
    push.connectAt = core.now;
  },
  reconnect_spread({ core, push }) {
    if (core.options.push) push.reconnect(core.advice.recoverSpread);
  },
  reconnect_after_bye({ core, push }, { retry = 0, spread = 0 }) {
    push.rotation.notBefore = core.now + retry;
    push.reconnect(spread);
  },
  back_off({ core, push }, cause) {
    push.backOff(cause);
    core.pathFailed(push.rotation);
  },
  reset_backoff({ push }) {
    push.rotation.succeeded();
  },
  leave({ push }) {
    push.leave();
  },
  say_goodbye({ push }) {
    push.sayGoodbye();
  },

  // The lease

  subscribe_all({ push }) {
    push.subscribeAll();
  },
  subscribe_new({ push }) {
    push.subscribeNew();
  },
  renew_resumed({ push }) {
    push.renewResumed();
  },
  renew_once_more({ push }) {
    push.renewOnceMore();
  },
  renew_later({ push }) {
    push.renewLater();
  },
  await_lease({ push }, { retry = 0, spread = 0 }) {
    push.awaitLease(retry, spread);
  },

  // Credentials

  fetch_token({ core }) {
    core.credentials.fetch();
  },
  hold_paths({ core, poll }) {
    core.credentials.held = true;
    poll.abandon();
  },
  release_paths(parts, cause) {
    const { core, push } = parts;
    if (!core.credentials.held) return;
    core.credentials.held = false;
    if (core.options.push && !push.connection) push.connectAt = core.now;
    if (core.mode === "connecting") ACTIONS.poll_early(parts, cause);
    else ACTIONS.poll_now(parts, cause);
  },
  /** Leave the connection, unless it waits for credentials: what was sent before is refused, too. */
  leave_refused({ push }) {
    if (!push.awaitsCredentials) push.leave();
  },
  await_credentials({ push }) {
    push.awaitCredentials();
  },
  present_token({ push }) {
    push.presentToken();
  },

  // Polling

  poll_now({ core, poll }) {
    poll.schedule(core.now);
  },
  /** Poll after a reset: now, or after a backoff if the reset before has brought the set no age (P-CLI-4). */
  poll_reset({ core, poll }) {
    const tries = core.knowledge.resets - 2;
    poll.schedule(core.now + (tries >= 0 ? core.advice.pause(core.random, tries, core.advice.pollSpread) : 0));
  },
  poll_soon({ core, poll }) {
    poll.schedule(core.spread(core.advice.pollSpread));
  },
  /** Poll if no connection has come to be after a part of the time for which an answer is waited for. */
  poll_early({ core, poll }) {
    poll.schedule(core.now + core.patience());
  },
  /** Poll soon if the connection is to come much later; else leave it to the connection (P-CLI-14). */
  poll_before_connecting({ core, push, poll }) {
    const due = push.connectAt;
    const late = !core.options.push || due - core.now > WORTH * core.answerTime;
    poll.schedule(late ? core.spread(core.advice.pollSpread) : due + core.patience());
  },
  avoid_connected({ push, poll }) {
    if (push.connection) poll.avoid(push.connection.url);
  },
  poll_uncertain({ push }, { names = [], version = 0 }) {
    push.pollUncertain(names, version);
  },
  stop_polling({ poll }) {
    poll.stop();
  },

  // Offline

  share_retry_budget({ retries }) {
    retries.share();
  },
  resume_paths({ retries }) {
    retries.resumePaths();
  },

  // History, the end

  reset({ core, push, poll }, cause) {
    const position = /** @type {import("./errors.js").Position} */ (cause.position);
    core.knowledge.reset(position);
    poll.abandon();
    push.rebase(position);
    core.count("resets");
    core.act({ do: "reset", position });
  },
  stop(parts, cause) {
    const error = /** @type {SoftstateError} */ (cause.error);
    parts.core.stoppedBy = error;
    end(parts, error);
    parts.core.act({ do: "stopped", error });
  },
  settle_closed(parts) {
    parts.core.stoppedBy = null;
    end(parts, new SoftstateError("client_closed", CLOSED_UNSENT), new SoftstateError("client_closed", CLOSED_SENT));
  },
};

/**
 * @param {Parts} parts
 * @param {SoftstateError} error
 * @param {SoftstateError | null} [ifSent]
 */
function end({ core, push, publishes }, error, ifSent = null) {
  push.connectAt = Infinity;
  publishes.stop();
  core.failures = 0;
  core.act(...core.queue.settleAll(error, ifSent));
}
