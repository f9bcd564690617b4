/** The client as a page sees it: it talks to an engine, in a worker or beside it, and keeps what that delivers. */

import { SoftstateError } from "../machine/errors.js";
import { checkName, covered } from "../machine/names.js";
import { Clock } from "./clock.js";
import { Updates } from "./updates.js";
import { pack, unpack } from "./wrapped.js";

/** The least that passes here while 1 s passes on the clock of a worker: each may be wrong by 1 %. */
const RATE = 0.98;
const KEY_CHARS_MAX = 128;
/** How long `get` asks nodes, if it is not told. */
const READ_MS = 10_000;
/** An `update` that lost waits for a time from 0 to min(cap, base · 2^losses) before it tries again. */
const UPDATE_BASE_MS = 5;
const UPDATE_CAP_MS = 1000;
const TOKEN = /^[\x20-\x7e]{1,8192}$/;

/**
 * @typedef {import("../machine/core.js").Mode} Mode
 * @typedef {import("../machine/errors.js").Position} Position
 * @typedef {{rejected: string | null, attempt: number}} TokenRequest why a token is wanted: the check that refused the
 *   last one (null: none, or it ends soon), and how often it was asked since a node took one
 * @typedef {(request: TokenRequest) => Promise<string | null>} TokenFunction
 * @typedef {{expect?: number, key?: string}} PublishOptions
 * @typedef {import("./updates.js").Change} Change
 */

/**
 * @param {string} what
 * @param {unknown} version
 */
function checkVersion(what, version) {
  if (version === undefined || (Number.isSafeInteger(version) && /** @type {number} */ (version) >= 0)) return;
  throw new SoftstateError("invalid", `${what} must be a version, an integer of at least 0, not ${String(version)}`);
}

/** @param {unknown} timeoutMs */
function checkTimeout(timeoutMs) {
  if (typeof timeoutMs === "number" && timeoutMs >= 0) return;
  throw new SoftstateError("invalid", `timeoutMs must be a number of milliseconds, at least 0, not ${String(timeoutMs)}`);
}

/** @param {unknown} key */
function checkKey(key) {
  if (key === undefined || (typeof key === "string" && key.length > 0 && key.length <= KEY_CHARS_MAX)) return;
  throw new SoftstateError("invalid", `key must be text of 1 to ${KEY_CHARS_MAX} characters`);
}

/**
 * A client of one or more nodes of one store; `connect` makes these. It listens as an EventTarget: `mode` whenever its
 * mode changes, `error` when it has ended for good.
 */
export class Client extends EventTarget {
  /**
   * @param {any} options of the machine
   * @param {TokenFunction | null} provider
   * @param {number} maxAge what is young enough for `read`, if that does not say
   * @param {Clock} [clock]
   */
  constructor(options, provider, maxAge, clock = new Clock()) {
    super();
    this._options = options;
    this._provider = provider;
    this._maxAge = maxAge;
    this._clock = clock;
    /** @type {any} */
    this._port = null;
    /** @type {Map<number, Updates>} */
    this._handles = new Map();
    /** @type {Map<number, {resolve(result: any): void, reject(error: SoftstateError): void, message: any}>} */
    this._asked = new Map();
    this._numbers = 0;
    /** @type {Map<number, number>} when each acknowledgement was sent, by this page's clock */
    this._sent = new Map();
    this._opening = false;
    /** @type {Mode} */
    this._mode = "connecting";
    /** @type {Position | null} */
    this._position = null;
    this._because = "";
    /** @type {SoftstateError | null} */
    this._lastError = null;
    /** @type {SoftstateError | null} */
    this._end = null;
    /** @type {() => void} */
    this.onclose = () => {};
    /** @type {() => void} what finds another engine, once this one has ended */
    this.onlost = () => {};
  }

  // State

  /** connecting, syncing, live, suspect, polling, offline, stopped or closed. */
  get mode() {
    return this._mode;
  }

  /** The newest point of the store's history that the client has heard of. */
  get position() {
    return this._position;
  }

  /** The newest error of a node that waiting does not mend; the client goes on all the same, if it can. */
  get lastError() {
    return this._lastError;
  }

  /** Why the last attempt failed that failed, in words; empty if none has. */
  get because() {
    return this._because;
  }

  // Following topics

  /**
   * Follow topics ("orders/42") and prefixes ("prices/", or "/" for everything) until the handle is closed.
   *
   * The last argument may be `{narrow: true}`: of a prefix that may be read in part only, what may be read takes its
   * place. Throws `invalid` for a malformed name.
   * @param {...(string | {narrow?: boolean})} names
   * @returns {Updates}
   */
  subscribe(...names) {
    const last = names[names.length - 1];
    const { narrow = false } = typeof last === "object" && last !== null ? last : {};
    const wanted = (typeof last === "string" ? names : names.slice(0, -1)).map((name) => checkName(name, "a name", true));
    if (!wanted.length) throw new SoftstateError("invalid", "subscribe needs at least one topic or prefix");
    if (this._end) throw this._end;
    const id = ++this._numbers;
    const close = () => {
      this._handles.delete(id);
      this._post({ type: "unsubscribe", id });
    };
    const updates = new Updates(wanted, narrow, () => this._clock.now(), close);
    this._handles.set(id, updates);
    this._post({ type: "subscribe", id, names: wanted, narrow });
    return updates;
  }

  /**
   * Return what is known of a topic that a subscription covers, if it is surely no older than `maxAge` seconds: no I/O,
   * at once. `value` is undefined, and `version` 0, if there is no such topic. Throws `stale`, whose `age` tells how old
   * what is known may be.
   * @param {string} topic
   * @param {{maxAge?: number}} [options]
   * @returns {{value: any, version: number, age: number}}
   */
  read(topic, { maxAge = this._maxAge } = {}) {
    checkName(topic, "topic");
    const best = this._best(topic);
    const age = best?.age ?? Infinity;
    if (best && age < Infinity && age <= maxAge) {
      return { value: best.get(topic)?.value, version: best.get(topic)?.version ?? 0, age };
    }
    let why = `the state of '${topic}' may be ${age.toFixed(1)} s old, and maxAge is ${maxAge} s`;
    if (!best) why = `no subscription covers '${topic}': subscribe to it`;
    else if (age === Infinity) why = `nothing proves how old the state of '${topic}' is: wait for the subscription's fresh()`;
    const error = new SoftstateError("stale", why);
    error.age = age;
    throw error;
  }

  /** @param {string} topic */
  _best(topic) {
    /** @type {Updates | null} */
    let best = null;
    for (const updates of this._handles.values()) {
      if (!covered(new Set(updates.names), topic) || updates.unreadable.includes(topic)) continue;
      if (!best || updates.age < best.age) best = updates;
    }
    return best;
  }

  /**
   * Read a topic from a node, without subscribing; resolves to undefined for a topic of which nothing is known, and to a
   * change that says `deleted` if its tombstone is. With `atLeast`, a version, the answer is no older than that on
   * each node: give it what `publish` returned to read your own write. Other nodes are asked when one fails or keeps
   * silent. Rejects with `unavailable` when `timeoutMs` is over (10,000 if it is not given), with `behind` if the nodes have
   * not seen that version by then, with `denied`, `unreadable` or `client_closed`.
   * @param {string} topic
   * @param {{atLeast?: number, timeoutMs?: number}} [options]
   * @returns {Promise<Change | undefined>}
   */
  async get(topic, { atLeast, timeoutMs = READ_MS } = {}) {
    checkName(topic, "topic");
    checkVersion("atLeast", atLeast);
    checkTimeout(timeoutMs);
    return this._ask({ type: "get", topic, atLeast: atLeast ?? null, timeoutMs });
  }

  // Publishing

  /**
   * Set a topic's value; resolves to its version once it is durable. With `expect`, only if the topic is at that version
   * now (0: if it does not exist). It is sent again until there is an answer.
   *
   * Rejects with `conflict` (`current` has the version that won), `invalid`, `too_large`, `denied`, `overloaded`,
   * `outcome_unknown` (it may have been applied: read the topic) or `client_closed`.
   * @param {string} topic
   * @param {any} value null, boolean, number, bigint of 64 bits, text, Uint8Array, lists and plain objects of these
   * @param {PublishOptions} [options]
   * @returns {Promise<number>}
   */
  async publish(topic, value, options = {}) {
    if (value === undefined) throw new SoftstateError("invalid", "value is undefined: publish null, or delete the topic");
    return this._publish(topic, value, false, options);
  }

  /**
   * Delete a topic; resolves to the version of its tombstone, 0 if there was nothing to delete.
   * @param {string} topic
   * @param {PublishOptions} [options]
   * @returns {Promise<number>}
   */
  async delete(topic, options = {}) {
    return this._publish(topic, null, true, options);
  }

  /**
   * @param {string} topic
   * @param {any} value
   * @param {boolean} deleted
   * @param {PublishOptions} options
   * @returns {Promise<number>}
   */
  _publish(topic, value, deleted, { expect, key }) {
    checkName(topic, "topic");
    checkVersion("expect", expect);
    checkKey(key);
    return this._ask({ type: "publish", topic, value, deleted, expect: expect ?? null, key: key ?? null });
  }

  /**
   * Publish a topic that has no value yet; resolves to its version. Rejects with `conflict` if it has one, else as
   * `publish` does.
   * @param {string} topic
   * @param {any} value
   * @param {{key?: string}} [options]
   * @returns {Promise<number>}
   */
  async create(topic, value, { key } = {}) {
    return this.publish(topic, value, { expect: 0, key });
  }

  /**
   * Change a topic's value by compare-and-set; resolves to its version.
   *
   * `change` gets a copy of the present value, undefined if there is none, and returns the next, or a promise of it. It is
   * called again whenever another publisher was faster, so it should do nothing else. Rejects with what it throws, and
   * as `publish` and `get` do; with `unavailable` if others were faster until `timeoutMs` was over.
   * @param {string} topic
   * @param {(value: any) => any} change
   * @param {{timeoutMs?: number}} [options]
   * @returns {Promise<number>}
   */
  async update(topic, change, { timeoutMs = Infinity } = {}) {
    checkName(topic, "topic");
    checkTimeout(timeoutMs);
    const ends = this._clock.now() + timeoutMs / 1000;
    const best = this._best(topic);
    let state = best && best.age < Infinity ? best.get(topic) : await this.get(topic);
    for (let tries = 0; ; tries++) {
      const present = state && !state.deleted ? state : null;
      const value = await change(present ? structuredClone(present.value) : undefined);
      try {
        return await this.publish(topic, value, { expect: present?.version ?? 0 });
      } catch (error) {
        if (!(error instanceof SoftstateError) || error.code !== "conflict") throw error;
        if (this._clock.now() >= ends) {
          const text = `others changed '${topic}' each of ${tries + 1} times: nothing was applied; try again`;
          throw new SoftstateError("unavailable", text);
        }
        const wait = Math.random() * Math.min(UPDATE_CAP_MS, UPDATE_BASE_MS * 2 ** Math.min(tries, 16));
        await new Promise((resolve) => setTimeout(resolve, wait));
        state = await this.get(topic, { atLeast: error.current ?? undefined });
      }
    }
  }

  /**
   * Have the engine do something; resolves to what comes of it.
   * @param {any} message
   * @returns {Promise<any>}
   */
  _ask(message) {
    if (this._end) throw this._end;
    const ticket = ++this._numbers;
    message = { ...message, ticket };
    return new Promise((resolve, reject) => {
      try {
        if (!this._port) message = structuredClone(message); // it is posted later
        this._post(message);
        this._asked.set(ticket, { resolve, reject, message });
      } catch (error) {
        const { message: why } = /** @type {Error} */ (error);
        reject(new SoftstateError("invalid", `value cannot be published: ${why}`));
      }
    });
  }

  /** Close the client: its subscriptions end, and what was not published yet is rejected. */
  close() {
    if (this._mode === "closed") return;
    this._post({ type: "close" });
    this._over("closed", new SoftstateError("client_closed", "the client was closed; what it had sent may be applied"));
    this.onclose();
  }

  // The engine's side

  /**
   * Talk to an engine by a port from now on: it is told all that this client follows, and what it has not been asked yet.
   * @param {any} port
   * @param {string} lock the name of a lock that this page holds, empty if it cannot
   */
  attach(port, lock) {
    if (this._end) return;
    this._port = port;
    port.onmessage = (/** @type {any} */ { data }) => this._read(data);
    this._opening = true;
    this._sent.clear();
    this._sent.set(0, this._clock.now());
    this._post({ type: "open", options: this._options, lock, provider: !!this._provider });
    for (const [id, { names, _inbox }] of this._handles) this._post({ type: "subscribe", id, names, narrow: _inbox.narrow });
    for (const { message } of this._asked.values()) this._post(message);
  }

  /** The engine has forgotten this client, or has ended: what it was asked to publish may be applied, or not. */
  lose() {
    this._port.onmessage = null;
    this._port = null;
    for (const updates of this._handles.values()) updates.doubt(this._position);
    const text = "this page was frozen, or its worker ended, meanwhile: it may have been applied; read the topic";
    for (const [ticket, { reject, message }] of [...this._asked]) {
      if (message.type === "get") continue;
      this._asked.delete(ticket);
      reject(new SoftstateError("outcome_unknown", text));
    }
    this._setMode("connecting");
  }

  /**
   * @param {SoftstateError} error why there is no engine to talk to
   * @param {boolean} final whether there will be none
   */
  stop(error, final) {
    if (this._end) return;
    this._lastError = error;
    this._because = error.message;
    if (final) this._over("stopped", error);
  }

  /** @param {string} type "jumped" or "online" */
  tell(type) {
    this._post({ type });
  }

  /** @param {any} message */
  _post(message) {
    this._port?.postMessage(message); // without one: `attach` will tell
  }

  /** @param {any} message */
  _read(message) {
    if (this._end) return;
    switch (message.type) {
      case "update":
        return this._update(message);
      case "outcome": {
        const waits = this._asked.get(message.ticket);
        this._asked.delete(message.ticket);
        if (message.error) waits?.reject(unpack(message.error));
        else waits?.resolve(message.result);
        return;
      }
      case "token":
        return void this._giveToken(message);
      case "stopped":
        return this._over("stopped", unpack(message.error));
      case "ready": // Safari has started the worker again, and given it the ports that the last one had
        return this.onlost();
      case "gone": {
        if (this._opening) return; // each message to an engine that has forgotten this tab gets one
        const port = this._port;
        this.lose();
        this.attach(port, ""); // the lock may have been lost, and who gets it takes this page for gone
      }
    }
  }

  /** @param {any} message */
  _update({ seq, anchor: [anchorSeq, anchorClock], clock, mode, position, error, because, handles }) {
    const now = this._clock.now();
    this._opening = false;
    const sent = this._sent.get(anchorSeq);
    for (const each of this._sent.keys()) if (each < anchorSeq) this._sent.delete(each);
    this._sent.set(seq, now);
    this._position = position;
    this._because = because;
    this._lastError = error && unpack(error);
    this._setMode(mode);
    const passed = clock - anchorClock;
    const reading = sent === undefined ? -Infinity : sent + (passed >= 0 ? RATE * passed : passed);
    for (const { id, events, age, unreadable } of handles) {
      const updates = this._handles.get(id);
      if (!updates) continue;
      const asof = age === null || reading - age > now ? null : reading - age; // in the future: a clock is broken
      updates.feed(events, asof, unreadable, position);
    }
    this._port.postMessage({ type: "ack", seq });
  }

  /** @param {Mode} mode */
  _setMode(mode) {
    if (mode === this._mode) return;
    this._mode = mode;
    this.dispatchEvent(new CustomEvent("mode", { detail: mode }));
  }

  /**
   * @param {Mode} mode
   * @param {SoftstateError} error
   */
  _over(mode, error) {
    this._end = error;
    for (const updates of this._handles.values()) updates.end(error);
    for (const { reject } of this._asked.values()) reject(error);
    this._asked.clear();
    this._setMode(mode);
    if (mode === "stopped") this.dispatchEvent(new CustomEvent("error", { detail: error }));
  }

  /** @param {{number: number} & TokenRequest} message */
  async _giveToken({ number, rejected, attempt }) {
    const port = this._port; // another engine has other numbers
    const answer = (/** @type {any} */ fields) => port.postMessage({ type: "token", number, ...fields });
    const failed = (/** @type {string} */ text) => answer({ error: pack(new SoftstateError("unavailable", text)) });
    try {
      const token = await this._provider?.({ rejected, attempt });
      if (token == null) {
        const none = new SoftstateError("denied", "the token function gives no token any more");
        answer({ error: pack(none), final: true });
      } else if (typeof token === "string" && TOKEN.test(token)) {
        answer({ token });
      } else {
        failed("the token function gave no token: that is text of 1 to 8192 printable ASCII characters");
      }
    } catch (error) {
      const kind = /** @type {Error} */ (error)?.name; // its text may hold a secret
      failed(`the token function failed: ${kind}`);
    }
  }
}
