/**
 * The client machine: `(state, event, now, random) → (state, actions)`, without I/O, clock or task.
 *
 * It reads events, finds out which trigger each one means, and runs the row that the table has for it. It is a port of
 * `softstate.client.machine`, message by message and draw by draw: the conformance traces hold for both.
 */

import { ACTIONS } from "./actions.js";
import { asked } from "./backoff.js";
import { Core, OPTIONS, bars } from "./core.js";
import { Credentials } from "./credentials.js";
import { SoftstateError } from "./errors.js";
import { Knowledge } from "./knowledge.js";
import { PollPath } from "./poll_path.js";
import { PublishPath } from "./publish_path.js";
import { PublishQueue } from "./publish_queue.js";
import { PushMessages } from "./push_messages.js";
import { PushPath } from "./push_path.js";
import { Reach } from "./reach.js";
import { RetryBudget } from "./retry_budget.js";
import { ROWS } from "./table.js";

/** Close code that says that the session's token is no longer valid. */
const DROP_SESSION = 4001;
/** Modes in which polls are made. */
const POLLING = ["connecting", "syncing", "suspect", "polling"];

/**
 * @typedef {import("./core.js").Action} Action
 * @typedef {import("./core.js").MachineEvent} MachineEvent
 */

/** @type {Map<string, {to: string | null, actions: string[]}>} the row of a trigger in a mode */
const TABLE = new Map(
  ROWS.flatMap(([modes, triggers, to, actions]) =>
    modes.flatMap((mode) => triggers.map((trigger) => [`${mode} ${trigger}`, { to, actions }])),
  ),
);

/** One client. `mode` is its state; `handle` takes it on; `deadline` says when to send `ticked` at the latest. */
export class Machine {
  /**
   * @param {Partial<typeof OPTIONS>} options
   * @param {import("./backoff.js").Random} random
   * @param {{token: string | null}} [cell] the token that all paths of one client present
   */
  constructor(options, random, cell) {
    const all = { ...OPTIONS, ...options };
    this._knowledge = new Knowledge();
    this._credentials = new Credentials(cell ?? { token: all.token }, random, all.provider);
    this._queue = new PublishQueue(random, all.publishes_waiting_max, all.inflight_max);
    const core = new Core(all, random, this._knowledge, this._queue, this._credentials, new Reach(random));
    this._core = core;
    this._credentials.core = core;
    this._push = new PushPath(core);
    this._poll = new PollPath(core, () => this._push.asking());
    this._publishes = new PublishPath(core);
    this._retries = new RetryBudget(core, this._push, this._poll);
    this._messages = new PushMessages(core, this._push);
    this._parts = {
      core,
      push: this._push,
      poll: this._poll,
      publishes: this._publishes,
      retries: this._retries,
    };
    core.fire = (trigger, cause = {}) => this._fire(trigger, cause);
    core.pathFailed = (rotation) => this._retries.failed(rotation);
    core.connectAt = () => this._push.connectAt;
    core.reachChanged = () => {
      this._push.reachChanged();
      this._poll.reachChanged(core.now + core.patience());
    };
  }

  // For shells

  get mode() {
    return this._core.mode;
  }

  /** The highest position known, of the history the client is in. */
  get position() {
    return this._knowledge.position;
  }

  /** The longest value that may be published, as CBOR: the limit of the last node that told one. */
  get valueBytesMax() {
    return this._core.portions.valueBytes;
  }

  /** The newest error that a node answered with, of those that waiting does not mend. */
  get lastError() {
    return this._core.lastError;
  }

  /**
   * Take one event and return what to do, in order. Never throws for what the network says.
   * @param {MachineEvent} event
   * @param {number} now seconds on a clock that runs during suspend and never goes back
   * @returns {Action[]}
   */
  handle(event, now) {
    const core = this._core;
    core.now = now;
    /** @type {Action[]} */
    const out = (core.out = []);
    this._read(event);
    if (core.narrowed.length) this._askFor(core.narrowed.splice(0));
    this._tick();
    this._sendPublishes();
    return out;
  }

  /** Have what waits for its time be tried with the next event: the host has just got a network again. */
  hurry() {
    const { now } = this._core;
    this._core.reach.forget();
    if (this._push.connectAt < Infinity) this._push.connectAt = now;
    if (this._poll.pollAt < Infinity) this._poll.pollAt = now;
    if (this.mode === "offline") this._retries.hurry(0);
  }

  /** Return when to send `ticked` at the latest; infinity if nothing is due. */
  deadline() {
    if (this._idle) return Infinity;
    const parts = [this._push, this._poll, this._retries, this._credentials];
    const due = Math.min(this._queue.due(), ...parts.map((part) => part.deadline()));
    if (this._publishes.inFlight) return Math.min(due, this._publishes.deadline);
    return this._queue.ready && !this._push.open ? Math.min(due, this._publishes.due) : due;
  }

  /**
   * Return the greatest age in seconds among `names` (null: all wanted); infinite while one is uncertified.
   * @param {number} now
   * @param {Iterable<string> | null} [names]
   */
  age(now, names = null) {
    return this._knowledge.age(now, names);
  }

  /**
   * Return the topics among those of `names` (null: all) whose stored records are damaged.
   * @param {string[] | null} [names]
   */
  unreadable(names = null) {
    return this._knowledge.unreadable(names);
  }

  /**
   * Return the newest known state of every topic that `name` covers. After a reset, old values have version 0.
   * @param {string} name
   */
  known(name) {
    return this._knowledge.known(name);
  }

  /**
   * Return why a publish is still waiting if it is certain not to be applied, else null.
   * @param {number} ticket
   */
  refusal(ticket) {
    return this._queue.refusal(ticket);
  }

  /** Return the counters as they are now. */
  statistics() {
    return { ...this._core.counts, dropped: this._knowledge.dropped, publishes_repeated: this._queue.repeats };
  }

  // Events

  get _idle() {
    return this.mode === "closed" || this.mode === "stopped";
  }

  /** @param {MachineEvent} event */
  _read(event) {
    const core = this._core;
    switch (event.event) {
      case "opened":
        this._credentials.begin();
        return this._fire(core.options.push ? "OPENED" : "OPENED_FOR_POLLING");
      case "closed":
        return this._fire("CLOSED");
      case "jumped":
        this._push.connection?.beats.forgetAnchor();
        return this._fire("JUMPED");
      case "wanted":
        return this._askFor(this._knowledge.add(event.names));
      case "narrowing":
        core.narrowing = new Set(event.names);
        return;
      case "unwanted": {
        const removed = this._knowledge.remove(event.names);
        if (removed.length) this._push.unsubscribe(removed);
        return;
      }
      case "publish_requested":
        return this._publish(event);
      case "publish_dropped":
        return this._queue.drop(event.ticket);
      case "fresh_wanted":
        return this._askNow();
      case "forked":
        return core.act(...this._queue.forked());
      case "poll_answered":
        return this._poll.answered(event.request, event.message);
      case "publish_answered":
        return this._publishes.answered(event.request, event.results);
      case "request_failed":
        this._poll.failed(event.request, event.error ?? null, !!event.unsent);
        return this._publishes.failed(event.request, event.error ?? null, !!event.unsent);
      case "token_got":
        if (this._credentials.got(event.number, event.token)) this._fire("TOKEN_GOT");
        return;
      case "token_failed":
        if (event.final) this._fire("TOKEN_FINAL", { error: event.error });
        else this._credentials.failed(event.number, event.error);
        return;
      case "token_refused":
        return this._tokenRefused(event);
      case "connected":
      case "connect_failed":
      case "arrived":
      case "lost":
        return this._readConnection(event);
    }
  }

  /** @param {MachineEvent} event */
  _publish({ ticket, topic, value = null, deleted = false, expect = null, key = null, cbor_bytes, wire_bytes }) {
    const core = this._core;
    if (this._idle) {
      const outcome = core.stoppedBy ?? new SoftstateError("client_closed", "the client is closed");
      core.act({ do: "settled", ticket, outcome });
    } else {
      core.act(...this._queue.ask({ ticket, topic, value, deleted, expect, key, cbor_bytes, wire_bytes }));
    }
  }

  /** @param {MachineEvent} event */
  _tokenRefused({ token, error }) {
    const credentials = this._credentials;
    if (!credentials.provider || !credentials.isPresent(token)) return;
    if (credentials.refused(token, error)) credentials.fetch();
    else this._fire("TOKEN_FINAL", { error });
  }

  /** Have a node say what is new: by a renewal, if there is a lease, else by a poll. */
  _askNow() {
    const { open } = this._push;
    if (open?.stage === "leased") {
      if (!open.renewing) this._push.renew();
    } else if (this.mode === "offline") {
      this._retries.hurry();
    } else if (POLLING.includes(this.mode)) {
      this._poll.schedule(this._core.now);
    }
  }

  /**
   * Have names that are new in the set answered, as far as the node's limit reaches.
   * @param {string[]} added
   */
  _askFor(added) {
    const core = this._core;
    const excess = core.limits ? this._knowledge.subscriptions.size - core.limits.subscriptions : 0;
    if (excess > 0) {
      const names = added.slice(-excess);
      this._knowledge.remove(names);
      core.act({ do: "names_denied", names, narrow: {} });
      added = added.slice(0, -excess);
    }
    if (!added.length) return;
    this._push.subscribe(added);
    if (this.mode === "connecting") ACTIONS.poll_early(this._parts, {});
    else if (this.mode === "offline") this._retries.hurry();
    else if (POLLING.includes(this.mode)) this._poll.scheduleAgain(core.now);
  }

  /** @param {MachineEvent} event */
  _readConnection(event) {
    const { connection } = this._push;
    if (!connection || connection.conn !== event.conn) return;
    if (event.event === "connect_failed") {
      this._connectFailed(connection, event);
    } else if (event.event === "arrived") {
      this._messages.read(connection, event.message);
    } else if (event.event === "lost") {
      this._lost(connection, event.code ?? null, event.reason);
    } else if (connection.stage === "opening") {
      this._core.reached(connection.url);
      this._push.hello(connection);
    }
  }

  /**
   * @param {import("./connection.js").Connection} connection
   * @param {MachineEvent} event
   */
  _connectFailed(connection, { reason, status = null, retry_ms, error = null, unsent = false }) {
    const core = this._core;
    const { open } = this._push;
    if (!unsent) core.reached(connection.url);
    core.mistrusted(connection.url, error);
    if (bars(error) || error?.code === "unsupported") core.refused(connection.url, error);
    this._push.ended();
    if (open) {
      this._fire("LOST"); // no shell should say so of a connection that it reported as made; it is lost all the same
    } else if ((status === 401 || status === 403) && !bars(error)) {
      const text = `the node refuses the connection: ${reason}`;
      this._forbidden(connection, status === 401 ? "unauthenticated" : "denied", text, error?.why);
    } else {
      const barred = status === 403 || status === 404 || bars(error);
      this._fire("REFUSED", { retry: asked(retry_ms), barred, unsent });
    }
  }

  /**
   * @param {import("./connection.js").Connection} connection
   * @param {number | null} code
   * @param {string} reason
   */
  _lost(connection, code, reason) {
    if (code === DROP_SESSION) this._push.session = null;
    const { open } = this._push;
    if (!open) this._push.early.lost(connection, code);
    this._push.ended();
    if (code !== null && code >= 4100 && code < 4300) {
      const text = `closed with code ${code}: ${reason}`;
      this._forbidden(connection, code < 4200 ? "unauthenticated" : "unsupported", text);
    } else {
      this._fire(open ? "LOST" : "REFUSED");
    }
  }

  /**
   * Take note of an end that waiting does not mend; other credentials may.
   * @param {import("./connection.js").Connection} connection
   * @param {string} code
   * @param {string} text
   * @param {string | null} [why]
   */
  _forbidden(connection, code, text, why) {
    const error = new SoftstateError(code, text, code === "unauthenticated" ? { why } : {});
    if (code !== "unauthenticated") this._fire("FORBIDDEN", { error });
    else if (this._core.unauthenticated(connection.presented, error, connection.url)) this._fire("REFUSED");
  }

  // The table

  /**
   * @param {string} trigger
   * @param {import("./core.js").Cause} [cause]
   */
  _fire(trigger, cause = {}) {
    const core = this._core;
    const row = TABLE.get(`${core.mode} ${trigger}`);
    if (!row) return;
    if (row.to !== null && row.to !== core.mode) {
      core.mode = /** @type {import("./core.js").Mode} */ (row.to);
      core.act({ do: "mode_changed", mode: core.mode });
    }
    for (const action of row.actions) ACTIONS[action](this._parts, cause);
  }

  // Time and publishes

  _tick() {
    if (this._idle) return;
    this._credentials.tick();
    this._push.tick();
    this._poll.tick();
    this._publishes.tick();
    this._core.act(...this._queue.tick(this._core.now));
    this._retries.tick();
  }

  _sendPublishes() {
    const { open, awaitsCredentials } = this._push;
    const { now } = this._core;
    if (awaitsCredentials) return;
    if (open) {
      const ready = this._queue.overConnection(open.conn, now);
      this._core.act(...ready.map((message) => ({ do: "send", conn: open.conn, message })));
    } else if (this._queue.ready && !this._publishes.inFlight && now >= this._publishes.due) {
      this._publishes.send();
    }
  }
}
