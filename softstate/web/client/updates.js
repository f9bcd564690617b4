/** The handle that an application iterates over: the newest value of each topic it follows, never a backlog. */

import { SoftstateError } from "../machine/errors.js";
import { covered } from "../machine/names.js";
import { unpack } from "./wrapped.js";
import { Inbox } from "./inbox.js";

/** How many denied names an error lists. */
const NAMES_SHOWN = 10;

/**
 * @typedef {import("../machine/known.js").Change} Change
 * @typedef {import("../machine/core.js").Mode} Mode
 * @typedef {import("../machine/errors.js").Position} Position
 */

/** @param {string[]} names */
const listed = (names) =>
  names.slice(0, NAMES_SHOWN).map((name) => `'${name}'`).join(", ") + (names.length > NAMES_SHOWN ? " and more" : "");

/**
 * Some topics and prefixes, followed until `close`. Iterate over it for changes, or listen for events:
 *
 * - `change` (`event.detail`: topic, version, value, deleted), `reset` (the store's history changed: a restored backup, a
 *   wiped store; forget what was shown, the values of the new history follow), `mode`, `age` (younger than before);
 * - `denied` (names that these credentials may not read), `refused` (one node refuses this client; it goes on with the
 *   others), `unreadable` (stored records that are damaged), `error` (what ended the client).
 *
 * Changes that are overtaken while the application is busy are never seen. Iterating throws `denied` once, when names
 * are refused, and what ended the client; when the handle is closed, it ends.
 */
export class Updates extends EventTarget {
  /**
   * @param {string[]} names
   * @param {boolean} narrow
   * @param {() => number} now
   * @param {() => void} close
   */
  constructor(names, narrow, now, close) {
    super();
    this._inbox = new Inbox(names, narrow);
    this._now = now;
    this._close = close;
    /** @type {Map<string, Change>} */
    this._values = new Map();
    /** @type {Position | null} where the store stood when an engine last forgot this tab, until the next tells */
    this._before = null;
    /** @type {Set<string>} topics whose value an engine that has forgotten this tab has yet to confirm */
    this._doubtful = new Set();
    this._asof = -Infinity;
    /** @type {string[]} */
    this._denied = [];
    this._resetCount = 0;
    /** @type {string[]} */
    this._unreadable = [];
    /** @type {SoftstateError | null} */
    this._denial = null;
    /** @type {SoftstateError | null} */
    this._end = null;
    this._closed = false;
    /** @type {(() => void)[]} */
    this._waiting = [];
  }

  /** The topics and prefixes this handle is on, without those that were denied. */
  get names() {
    return [...this._inbox.names];
  }

  /** The names that the node refused, or that no longer fit into its limits. */
  get denied() {
    return [...this._denied];
  }

  /** How many times the store's history changed under this handle. */
  get resetCount() {
    return this._resetCount;
  }

  /** The topics under this handle whose stored records are damaged, as far as is known: they have no age. */
  get unreadable() {
    return [...this._unreadable];
  }

  /**
   * How old all that is known here may be, in seconds, as of now: every change before that has been handed over. It is
   * Infinity until the first answer.
   * @returns {number}
   */
  get age() {
    return this._now() - this._asof;
  }

  /**
   * The newest known state of a topic, if it has a value.
   * @param {string} topic
   * @returns {Change | undefined}
   */
  get(topic) {
    return this._values.get(topic);
  }

  /**
   * Every topic that has a value, with its newest known state.
   * @returns {Map<string, Change>}
   */
  snapshot() {
    return new Map(this._values);
  }

  /**
   * Wait until all that is known here is at most `maxAge` seconds old (by default: of any finite age).
   * @param {number} [maxAge]
   * @returns {Promise<void>}
   */
  async fresh(maxAge = Number.MAX_VALUE) {
    while (!(this.age <= maxAge)) {
      this._throwIfOver();
      if (this._closed) throw new SoftstateError("client_closed", "this subscription was closed");
      await this._wait();
    }
  }

  /** Follow these names no more; iterations end. */
  close() {
    if (this._closed) return;
    this._closed = true;
    this._inbox.clear();
    this._close();
    this._wake();
  }

  [Symbol.asyncIterator]() {
    return {
      next: () => this._next(),
      return: async () => ({ done: /** @type {const} */ (true), value: undefined }),
    };
  }

  /**
   * Iterate over changes as above, all that are pending at once: lists of one change or more, of distinct topics.
   * @returns {AsyncIterableIterator<Change[]>}
   */
  batches() {
    return {
      next: async () => {
        const changes = await this._take(Infinity);
        return changes ? { done: false, value: changes } : { done: true, value: undefined };
      },
      return: async () => ({ done: true, value: undefined }),
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  /** @returns {Promise<IteratorResult<Change, undefined>>} */
  async _next() {
    const changes = await this._take(1);
    return changes ? { done: false, value: changes[0] } : { done: true, value: undefined };
  }

  /**
   * Wait for changes and take them; null once the handle is closed.
   * @param {number} most
   * @returns {Promise<Change[] | null>}
   */
  async _take(most) {
    for (;;) {
      this._throwDenial();
      const changes = [];
      for (let event; changes.length < most && (event = this._inbox.take()); ) {
        if (event.type !== "change") continue;
        const { type: _, ...change } = event;
        changes.push(change);
      }
      if (changes.length) return changes;
      if (this._closed) return null;
      this._throwIfOver();
      await this._wait();
    }
  }

  // The client's side

  /**
   * @param {import("./inbox.js").InboxEvent[]} events
   * @param {number | null} asof since when all is known, by this page's clock; null: it is told later
   * @param {string[]} unreadable
   * @param {Position | null} [position] of the store, as far as the engine has heard
   */
  feed(events, asof, unreadable, position = null) {
    const before = this._before;
    if (before && position) {
      this._before = null;
      const same = before.epoch === position.epoch && before.lineage === position.lineage;
      if (!same && !events.some(({ type }) => type === "reset")) events = [{ type: "reset", position }, ...events];
    }
    for (const event of events) this._note(event);
    if (asof !== null && asof > -Infinity) events = [...events, ...this._gone(position?.revision ?? 0)];
    this._unreadable = unreadable;
    const younger = asof !== null && asof > this._asof;
    if (asof === -Infinity || younger) this._asof = /** @type {number} */ (asof);
    this._wake();
    for (const event of events) this._dispatch(event);
    if (younger) this.dispatchEvent(new Event("age"));
  }

  /**
   * The engine tells all that it knows again, but no deletions and resets: what it leaves out is gone once it tells an
   * age, and another history is a reset.
   * @param {Position | null} position where the store stood
   */
  doubt(position) {
    this._before ??= position;
    this._doubtful = new Set(this._values.keys());
  }

  /** @param {number} revision */
  _gone(revision) {
    const gone = [...this._doubtful].filter((topic) => this._values.has(topic)).map((topic) => {
      return { type: /** @type {const} */ ("change"), topic, version: revision, value: null, deleted: true };
    });
    this._doubtful.clear();
    for (const event of gone) this._note(event);
    return gone;
  }

  /** @param {SoftstateError} error what ended the client */
  end(error) {
    this._end ??= error;
    this._wake();
    this.dispatchEvent(new CustomEvent("error", { detail: error }));
  }

  /** @param {import("./inbox.js").InboxEvent} event */
  _note(event) {
    this._inbox.tell(event);
    if (event.type === "change") {
      const { type: _, ...change } = event;
      this._doubtful.delete(change.topic);
      if (change.deleted) this._values.delete(change.topic);
      else this._values.set(change.topic, change);
    } else if (event.type === "reset") {
      this._resetCount += 1;
      this._asof = -Infinity;
    } else if (event.type === "denied") {
      this._asof = -Infinity;
      this._denied.push(...event.names);
      for (const topic of [...this._values.keys()]) {
        if (!covered(this._inbox.names, topic)) this._values.delete(topic);
      }
      if (!event.silent) this._denial = this._deniedError(event.below);
    }
  }

  /** @param {string[]} below what may be read instead */
  _deniedError(below) {
    const instead = below.length ? `; you may read ${listed(below)}: subscribe to that` : "";
    const text = `the node refuses these names, or they exceed its limits: ${listed(this._denied)}${instead}`;
    return new SoftstateError("denied", text);
  }

  /** @param {import("./inbox.js").InboxEvent} event */
  _dispatch(event) {
    const { type, ...detail } = event;
    if (type === "denied" && event.silent) return;
    const told = "error" in detail ? { ...detail, error: unpack(detail.error) } : detail;
    this.dispatchEvent(new CustomEvent(type, { detail: told }));
  }

  _throwDenial() {
    const denial = this._denial;
    if (!denial) return;
    if (this._inbox.names.size) this._denial = null;
    throw denial;
  }

  _throwIfOver() {
    this._throwDenial();
    if (this._end) throw this._end;
  }

  _wait() {
    return new Promise((resolve) => this._waiting.push(() => resolve(undefined)));
  }

  _wake() {
    for (const resume of this._waiting.splice(0)) resume();
  }
}
