/**
 * The WebSocket path of the client machine: connecting, the session and its lease, subscribing, renewing.
 *
 * It fires triggers for what happens on its connection; the table decides, and the actions of its rows call the methods
 * of the middle section.
 */

import { LEASE_S_MIN, Rotation, jittered } from "./backoff.js";
import { Connection } from "./connection.js";
import { EarlyNames } from "./early_names.js";
import { isPrefix } from "./names.js";

/** A connection is left when a publish stays unanswered for this many times `timeout_ms`. */
const PUBLISH_TIMEOUTS = 4;
/** Names are polled beside an answer whose pages have brought nothing for this many times `timeout_ms`. */
const IDLE_TIMEOUTS = 4;
/** So many leases in a row end at once, before the next waits for longer than nodes advise. */
const BRIEF_MIN = 2;
/** Renewals whose answers are still taken if they come late; older ones are forgotten. */
const RENEWALS_MAX = 8;

/** @typedef {import("./core.js").Cause} Cause */

export class PushPath {
  /** @param {import("./core.js").Core} core */
  constructor(core) {
    this._core = core;
    this.rotation = new Rotation(core.options.urls, core.random, core.reach);
    /** @type {Connection | null} */
    this.connection = null;
    /** @type {import("./connection.js").Session | null} */
    this.session = null;
    this.early = new EarlyNames(core);
    /** When to open the next connection; infinity while there is one. */
    this.connectAt = Infinity;
    /** Whether `connectAt` was drawn from a spread; only the first of all is not. */
    this.placed = false;
    this._held = false;
    this._requests = 0;
    this._brief = 0;
  }

  /** The connection, if it has had its welcome. */
  get open() {
    return this.connection?.open ? this.connection : null;
  }

  /** Return the names that a subscribe in flight asks for in full, and whose answer is neither overdue nor idle. */
  asking() {
    /** @type {Set<string>} */
    const found = new Set();
    if (!this.open) return found;
    const held = this._core.knowledge.subscriptions;
    const idleSince = this._core.now - IDLE_TIMEOUTS * this.open.timeout;
    for (const { joins, timedOut, question } of this.open.requests.values()) {
      if (!joins || timedOut || question.idleSince <= idleSince) continue;
      for (const name of question.since.keys()) if (held.get(name)?.whole) found.add(name);
    }
    return found;
  }

  deadline() {
    if (!this.connection) return this._core.credentials.held ? Infinity : this.connectAt;
    return Math.min(this.connection.due, this._stuckAt(this.connection));
  }

  tick() {
    const core = this._core;
    const { connection } = this;
    const { now } = core;
    if (!connection) {
      if (now >= this.connectAt && !core.credentials.held) this.connect();
    } else if (now < this.deadline()) {
      return;
    } else if (!connection.open) {
      core.reached(connection.url); // it does not refuse: it is silent
      core.fire("REFUSED");
    } else if (now >= this._stuckAt(connection)) {
      this._missed("STUCK");
    } else if (now >= connection.leaseUntil && connection.leased) {
      this._missed("EXPIRED");
    } else if (connection.leased && connection.overdue(now)) {
      this._missed("ANSWER_MISSED");
    } else if (now >= connection.resubscribeAt) {
      connection.endWait();
      core.fire("WAIT_OVER");
    } else if (now >= connection.silentAt && !connection.beats.excuses(now)) {
      connection.beats.told();
      this._missed("SILENT");
    } else if (now >= connection.due) {
      if (now >= connection.askAt) connection.beats.asked();
      this.renew();
    }
  }

  // Requests of the table's actions and of the application

  /** Open a connection now, or as soon as a URL may be dialled. */
  connect() {
    const core = this._core;
    this.connectAt = this.rotation.choose(core.now);
    this._held = this.connectAt > core.now;
    if (this._held) return;
    this.connectAt = Infinity;
    const timeout_s = core.options.connect_timeout_s;
    const { url } = this.rotation;
    core.reach.probe(url, core.now + timeout_s);
    this.connection = new Connection(core.number(), url, core.now + timeout_s);
    this.connection.presented = core.credentials.cell.token;
    core.count("connects");
    core.act({ do: "connect", conn: this.connection.conn, url, timeout_s });
  }

  /**
   * Open a session; ask to resume the last if its lease may live and holds the set wanted (P-RES-5). Behind it goes
   * what the welcome is not needed for (P-CLI-16).
   * @param {Connection} connection
   */
  hello(connection) {
    const core = this._core;
    const { options, knowledge } = core;
    const { session } = this;
    connection.stage = "greeting";
    connection.helloSent = core.now;
    connection.deadline = core.now + options.hello_timeout_s;
    connection.helloSerial = knowledge.nextSerial();
    connection.helloDigest = knowledge.digest;
    const position = (connection.base = knowledge.position);
    let since = null;
    if (session && core.now < session.leaseUntil && session.agreed === connection.helloDigest && position) {
      since = knowledge.lowestRevision();
    }
    const resumes = since !== null && !!session?.token;
    const token = connection.presented; // of the handshake, if another came meanwhile: that one follows the welcome
    this._send(connection, {
      op: "hello",
      ...(position && { position }),
      ...(resumes && { session: session?.token, since }),
      ...(options.ttl_ms !== null && { ttl_ms: options.ttl_ms }),
      ...(token !== null && { token }),
      ...(options.name && { name: options.name }),
      ...(options.beat_ms !== null && { beat_ms: options.beat_ms }),
    });
    if (!this.early.allowed(connection.url)) return;
    if (resumes) {
      this._renew(connection);
    } else if (knowledge.subscriptions.size) {
      knowledge.beginLease();
      this._subscribePortions(connection, this.early.portions(connection.url));
    }
  }

  /** Subscribe, in a new session, all that was not subscribed behind hello since it was wanted. */
  subscribeNew() {
    const connection = this._opened();
    const held = this._core.knowledge.subscriptions;
    if (!connection.requests.size) {
      connection.forgetRequests(); // the renewal, if the client asked to resume
      if (held.size) this.subscribeAll();
      return;
    }
    /** @type {Map<string, number>} */
    const asked = new Map();
    for (const { question } of connection.requests.values()) {
      for (const name of question.since.keys()) asked.set(name, question.serial);
    }
    const unwanted = [...asked.keys()].filter((name) => !held.has(name));
    if (unwanted.length) this.unsubscribe(unwanted);
    const missing = [...held].filter(([name, { added }]) => added >= (asked.get(name) ?? -Infinity));
    this.subscribe(missing.map(([name]) => name));
  }

  /** Subscribe the whole set, with versions, in place of what the lease holds. */
  subscribeAll() {
    const core = this._core;
    const connection = this._opened();
    connection.resubscribe(core.now);
    core.knowledge.beginLease();
    this.scheduleRenewal(connection);
    // The node takes them in order, and the first one empties its set: what a later one adds, none takes away. A
    // renewal is sent behind the last, so that it is compared with the whole.
    const portions = core.cut(core.knowledge.subscriptions.keys());
    this._subscribePortions(connection, portions.length ? portions : [[]]);
  }

  /** @param {string[]} names to be added to the lease, if there is one; else they are part of the next */
  subscribe(names) {
    const connection = this.open;
    if (connection?.stage !== "leased") return;
    for (const portion of this._core.cut(names)) this._subscribe(connection, portion, false);
  }

  /** @param {string[]} names to be taken out of the lease, if there is one: best effort */
  unsubscribe(names) {
    const connection = this.open;
    if (!connection?.leased) return;
    this._disagree(connection, this._core.knowledge.nextSerial());
    for (const portion of this._core.cut(names)) {
      const topics = portion.filter((name) => !isPrefix(name));
      const prefixes = portion.filter(isPrefix);
      this._send(connection, {
        op: "unsubscribe",
        ...(topics.length && { topics }),
        ...(prefixes.length && { prefixes }),
      });
    }
  }

  /** Extend the lease, and ask whether both sides hold the same set. */
  renew() {
    const connection = this._opened();
    this._renew(connection);
    this.scheduleRenewal(connection);
  }

  /** @param {Connection} connection */
  _renew(connection) {
    const core = this._core;
    const id = this._requestId("renew");
    const { renewals } = connection;
    const serial = core.knowledge.nextSerial();
    renewals.set(id, { serial, sent: core.now, setChanged: false, timedOut: false });
    if (renewals.size > RENEWALS_MAX) renewals.delete(/** @type {string} */ (renewals.keys().next().value));
    const [digest, count] = core.knowledge.digest.split(" ");
    const { ttl_ms } = core.options;
    this._send(connection, {
      op: "renew",
      id,
      digest,
      count: +count,
      ...(ttl_ms !== null && { ttl_ms }),
      ...core.told(),
    });
  }

  /** Renew, unless that was asked for behind hello. */
  renewResumed() {
    if (!this._opened().renewals.size) this.renew();
  }

  /** @param {Connection} connection one that is renewed one jittered interval from now */
  scheduleRenewal(connection) {
    connection.renewAt = this._core.now + jittered(this._core.random, connection.renewEvery);
  }

  /** Renew after a miss: this renewal alone decides. */
  renewOnceMore() {
    this._opened().clearTimers();
    this.renew();
  }

  /** Renew after a backoff instead of a full interval: the store was down. */
  renewLater() {
    const core = this._core;
    const connection = this._opened();
    const pause = core.advice.pause(core.random, connection.tries);
    connection.tries += 1;
    connection.renewAt = Math.min(connection.renewAt, core.now + pause);
  }

  /**
   * Poll, on the connection, the names that cover a topic of which a change may be missing.
   * @param {string[]} names
   * @param {number} min_revision
   */
  pollUncertain(names, min_revision) {
    const core = this._core;
    const connection = this._opened();
    for (const portion of core.cut(names)) {
      const question = core.knowledge.ask(portion, core.now);
      const id = this._requestId("poll");
      connection.requests.set(id, { question, joins: false, early: false, timedOut: false });
      const { position } = core.knowledge;
      this._send(connection, {
        op: "poll",
        id,
        ...(position && { position }),
        ...question.names,
        ...(min_revision && { min_revision }),
      });
    }
  }

  /**
   * Wait on the open connection, its lease revoked, until it is time to subscribe again.
   * @param {number} retry
   * @param {number} spread
   */
  awaitLease(retry, spread) {
    const core = this._core;
    const connection = this._opened();
    if (this.session) this.session.agreed = null;
    core.knowledge.beginLease();
    this._noteLease(connection);
    connection.revoked(core.now + Math.max(retry, this._pause(spread)));
  }

  /** Whether the connection is kept until other credentials were presented on it. */
  get awaitsCredentials() {
    return !!this.connection?.awaitsCredentials;
  }

  /** Wait on the open connection, its lease over, until other credentials were taken. */
  awaitCredentials() {
    const connection = this._opened();
    if (this.session) this.session.agreed = null;
    this._core.knowledge.beginLease();
    connection.revoked(Infinity);
    connection.awaitsCredentials = true;
  }

  /** Present the token in place, if the connection has not presented it (P-AUTH-6). */
  presentToken() {
    const connection = this.open;
    const { token } = this._core.credentials.cell;
    if (!connection || token === null || connection.presented === token) return;
    const id = this._requestId("auth");
    connection.presenting = { id, token, sent: this._core.now };
    this._send(connection, { op: "auth", id, token });
  }

  /** @param {Connection} connection whose token was taken; another lease may begin, if the last ended for want of it */
  authenticated(connection) {
    connection.presented = connection.presenting?.token ?? null;
    connection.presenting = null;
    if (!connection.awaitsCredentials) return;
    connection.awaitsCredentials = false;
    connection.resubscribeAt = this._core.now;
  }

  /** Leave the connection, if there is one; a session stays worth resuming. */
  leave() {
    if (!this.connection) return;
    this._core.act({ do: "disconnect", conn: this.connection.conn });
    this.ended();
  }

  /** Forget the connection: it has ended. */
  ended() {
    const { connection, session } = this;
    if (!connection) return;
    if (session && connection.open) session.leaseUntil = connection.leaseUntil;
    this._noteLease(connection);
    this._core.queue.lost(connection.conn);
    this._core.knowledge.beginLease();
    this.connection = null;
  }

  /** Release the lease. */
  sayGoodbye() {
    if (this.open) this._send(this.open, { op: "bye" });
    this.session = null;
  }

  /** @param {import("./errors.js").Position} position to which a welcome on this connection reset the client */
  rebase(position) {
    if (this.open) this.open.base = position;
  }

  /**
   * Connect at a random time within a spread, which begins when a URL may be dialled at all. A spread may be 0: after
   * brief leases the time is that of a backoff that covers it.
   * @param {number} spread
   */
  reconnect(spread) {
    this.connectAt = Math.max(this._core.now, this.rotation.notBefore) + this._pause(spread);
    this.placed = true;
  }

  /** @param {Cause} cause why a connection could not be made or did not last: choose the next URL, and when to try it */
  backOff({ unsent, barred, retry }) {
    const core = this._core;
    const { url } = this.rotation;
    if (unsent) core.refusedDial(url, Infinity, this.placed);
    if (barred) {
      this.connectAt = this.rotation.bar(url, core.now, core.advice);
    } else {
      this.connectAt = this.rotation.failed(url, core.now, core.advice, retry, core.advice.recoverSpread);
      this.placed ||= this.connectAt > core.now;
    }
  }

  /**
   * Take note of what another path learnt of a URL. While all URLs refuse, the next dial comes when the next probe is
   * due, but no earlier than it was planned.
   */
  reachChanged() {
    if (this.connection || this.connectAt === Infinity) return;
    const { probeAt } = this.rotation;
    if (probeAt !== null) this.connectAt = this._held ? probeAt : Math.max(this.connectAt, probeAt);
    else if (this._held) this.connectAt = this._core.spread(this._core.advice.recoverSpread);
    this._held = false;
  }

  /** @param {number} serial of a request whose answer tells that both sides hold the same set */
  agree(serial) {
    if (this.session && serial >= this._opened().changed) this.session.agreed = this._core.knowledge.digest;
  }

  /** @param {number} serial of a request that has its answer: fire `ALL_ANSWERED` if no subscribe is owed one */
  checkAnswered(serial) {
    const connection = this.open;
    if (connection?.stage !== "leased") return;
    for (const request of connection.requests.values()) if (request.joins) return;
    connection.tries = 0;
    this.agree(serial);
    this._core.fire("ALL_ANSWERED");
  }

  // Inside

  /** @returns {Connection} the open one: rows with an action that needs it are reached with one only */
  _opened() {
    return /** @type {Connection} */ (this.open);
  }

  /**
   * @param {Connection} connection
   * @param {any} message
   */
  _send({ conn }, message) {
    this._core.act({ do: "send", conn, message });
  }

  /** @param {Connection} connection whose lease, if it has one, has ended */
  _noteLease(connection) {
    if (connection.leased) this._brief = this._core.now - connection.leaseBegan < LEASE_S_MIN ? this._brief + 1 : 0;
  }

  /** @param {number} spread within which to draw how long to wait for another lease, or a backoff after brief ones */
  _pause(spread) {
    const { random, advice } = this._core;
    return this._brief < BRIEF_MIN ? random.uniform(0, spread) : advice.pause(random, this._brief - BRIEF_MIN, spread);
  }

  /**
   * Note that request `serial` changes the node's set, if it arrives: until it is answered, both may differ.
   * @param {Connection} connection
   * @param {number} serial
   */
  _disagree(connection, serial) {
    connection.changed = serial;
    if (this.session && connection.open) this.session.agreed = null;
  }

  /** @param {Connection} connection */
  _stuckAt(connection) {
    if (!connection.open) return Infinity;
    const since = Math.min(this._core.queue.sentSince(connection.conn), connection.presenting?.sent ?? Infinity);
    return since + PUBLISH_TIMEOUTS * connection.timeout;
  }

  /** @param {string} trigger */
  _missed(trigger) {
    this._core.count("misses");
    this._core.fire(trigger);
  }

  /** @param {string} kind */
  _requestId(kind) {
    return `${kind}-${++this._requests}`; // publishes are known by numbers, everything else by text
  }

  /**
   * @param {Connection} connection
   * @param {string[][]} portions
   */
  _subscribePortions(connection, portions) {
    portions.forEach((names, at) => this._subscribe(connection, names, at === 0));
  }

  /**
   * @param {Connection} connection
   * @param {string[]} names
   * @param {boolean} replace
   */
  _subscribe(connection, names, replace) {
    const core = this._core;
    const question = core.knowledge.ask(names, core.now, core.knowledge.lease);
    const id = this._requestId("subscribe");
    connection.requests.set(id, { question, joins: true, early: !connection.open, timedOut: false });
    this._disagree(connection, question.serial);
    this._send(connection, { op: "subscribe", id, ...question.names, ...(replace && { replace }) });
  }
}
