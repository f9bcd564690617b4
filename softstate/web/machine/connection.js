/** One WebSocket connection of the client machine: its stage, requests in flight, timers, and place in history. */

import { RENEW_S_MIN, TIMEOUT_S_MIN } from "./backoff.js";
import { BeatWatch } from "./beat_watch.js";
import { CREDENTIALS_MARGIN } from "./credentials.js";

/** The fraction of its TTL for which a client relies on a lease: the node's clock may run faster (S6, P-REN-6). */
const LEASE_MARGIN = 0.99;

/**
 * @typedef {import("./errors.js").Position} Position
 * @typedef {{question: import("./question.js").Question, joins: boolean, early: boolean, timedOut: boolean}} InFlight
 *   a subscribe or a poll: whether its names leave the lease if it fails, and whether it was sent behind hello
 * @typedef {{serial: number, sent: number, setChanged: boolean, timedOut: boolean}} Renewal
 * @typedef {{token: string, leaseUntil: number, agreed: string | null}} Session one worth resuming while its lease may
 *   live and holds the very set that is wanted: `agreed` is its digest
 * @typedef {"opening" | "greeting" | "leased" | "retrying" | "revoked"} Stage
 */

export class Connection {
  /**
   * @param {number} conn
   * @param {string} url
   * @param {number} deadline when the present stage, before the welcome, has taken too long
   */
  constructor(conn, url, deadline) {
    this.conn = conn;
    this.url = url;
    this.deadline = deadline;
    /** @type {Stage} */
    this.stage = "opening";
    this.helloSerial = 0;
    this.helloSent = Infinity;
    this.helloDigest = "";
    /** @type {Position | null} the client's position that `hello` carried, or that this connection last moved */
    this.base = null;
    /** @type {Position | null} the newest position that this connection named */
    this.latest = null;
    /** The pushes that arrived, to be compared with what `renewed` says was sent. */
    this.notifyCount = 0;
    /** @type {Map<string, InFlight>} */
    this.requests = new Map();
    /** @type {Map<string, Renewal>} */
    this.renewals = new Map();
    /** @type {Set<string>} requests that a reset at the welcome has made void */
    this.voided = new Set();
    this.leaseBegan = -Infinity;
    this.leaseUntil = Infinity;
    this.ttl = 0;
    /** When the credentials end that were presented here, and every lease with them (P-AUTH-3). */
    this.credentialsUntil = Infinity;
    /** @type {string | null} the token that the node has taken, or was sent with hello */
    this.presented = null;
    /** @type {{id: string, token: string, sent: number} | null} the `auth` in flight */
    this.presenting = null;
    this.awaitsCredentials = false;
    this.renewEvery = 0;
    this.timeout = 0;
    /** When a page last arrived: it restarts the timers of its request, and of those behind it (P-CLI-2). */
    this.pageAt = -Infinity;
    /** When the request was sent that this page answers. */
    this.pageSent = Infinity;
    this.renewAt = Infinity;
    /** When to subscribe everything again, in the stages that wait for that. */
    this.resubscribeAt = Infinity;
    this.beats = new BeatWatch();
    /** Serial of the last request that changed the node's set. */
    this.changed = 0;
    /** Subscribes in a row that failed and may succeed later. */
    this.tries = 0;
  }

  /** Whether it has had its welcome. */
  get open() {
    return this.stage !== "opening" && this.stage !== "greeting";
  }

  /** Whether there is a lease. */
  get leased() {
    return this.stage === "leased" || this.stage === "retrying";
  }

  /**
   * Begin a lease; it runs from the sending of `hello`. The timers of what was sent behind it begin again.
   * @param {any} message
   * @param {number} now
   */
  welcome(message, now) {
    this.stage = "leased";
    this.leaseBegan = now;
    this.timeout = Math.max(message.timeout_ms / 1000, TIMEOUT_S_MIN);
    this.beats.timeout = this.timeout;
    this.agreeOn(message, this.helloSent, now);
    this.leaseUntil = this.leaseEnd(this.helloSent);
    if (this.requests.size || this.renewals.size) this.page(now, this.helloSent);
  }

  /**
   * Take over how long the lease lasts, and how often to renew it, from the answer to a request of `sent`.
   * @param {any} message
   * @param {number} sent
   * @param {number} now
   */
  agreeOn(message, sent, now) {
    this.ttl = message.ttl_ms / 1000;
    this.toldCredentials(message.credentials_ms, sent);
    this.renewEvery = Math.max(message.renew_ms / 1000, RENEW_S_MIN);
    this.beats.grant(message.beat_ms, this.renewEvery, now);
    this.beats.answered(sent, now, message.clock_ms);
  }

  /**
   * @param {number} sent
   * @returns {number} when the lease ends that a request sent at `sent` extended: before the node's
   */
  leaseEnd(sent) {
    return Math.min(sent + LEASE_MARGIN * this.ttl, this.credentialsUntil);
  }

  /**
   * Take note for how long the credentials are good, from an answer to a request of `sent`.
   * @param {number | null | undefined} ms
   * @param {number} sent
   */
  toldCredentials(ms, sent) {
    this.credentialsUntil = sent + CREDENTIALS_MARGIN * (ms == null ? Infinity : ms / 1000);
  }

  /** @param {number} sent the time of a request that extends the lease, and that the node answered */
  extend(sent) {
    this.leaseUntil = Math.max(this.leaseUntil, this.leaseEnd(sent));
  }

  /**
   * Take note that a page of the answer to a request sent at `sent` arrived.
   * @param {number} now
   * @param {number} sent
   */
  page(now, sent) {
    this.pageAt = now;
    this.pageSent = sent;
  }

  /** @param {number} now when the lease, another one after `revoked`, begins to hold what is subscribed from then on */
  resubscribe(now) {
    this.forgetRequests();
    this.beats.beginAgain();
    if (!this.leased) this.leaseBegan = now;
    this.stage = "leased";
    this.resubscribeAt = Infinity;
  }

  /** Take note that `resubscribeAt` has come. */
  endWait() {
    this.resubscribeAt = Infinity;
    if (this.stage === "retrying") this.stage = "leased";
  }

  /** @param {number} due when to subscribe everything again, on the present lease */
  retry(due) {
    this.requests.clear();
    this.stage = "retrying";
    this.resubscribeAt = due;
  }

  /** @param {number} due when to subscribe everything again: the lease is over */
  revoked(due) {
    this.forgetRequests();
    this.stage = "revoked";
    this.resubscribeAt = due;
  }

  /** Expect no answer any more: what still comes is ignored, but for publishes. */
  forgetRequests() {
    this.requests.clear();
    this.renewals.clear();
  }

  /** Ignore every answer to what was sent behind hello: its history is gone. */
  voidRequests() {
    this.voided = new Set([...this.requests.keys(), ...this.renewals.keys()]);
    this.forgetRequests();
  }

  /**
   * @param {number} now
   * @returns {boolean} whether an answer is missing
   */
  overdue(now) {
    return this._missedAt <= now;
  }

  /** Stop the timers of everything in flight: a miss has been counted, and a new renewal decides. */
  clearTimers() {
    for (const each of [...this.requests.values(), ...this.renewals.values()]) each.timedOut = true;
  }

  /** @param {InFlight} request a subscribe some of whose names the node has taken out: renewals behind it mismatch */
  expectMismatch({ question }) {
    for (const renewal of this.renewals.values()) if (renewal.serial > question.serial) renewal.setChanged = true;
  }

  /** When something of this connection is due. */
  get due() {
    if (!this.open) return this.deadline;
    if (!this.leased) return this.resubscribeAt;
    const renewAt = this.renewing ? Infinity : this.renewAt;
    return Math.min(this.resubscribeAt, renewAt, this.leaseUntil, this._missedAt, this.askAt, this.silentAt);
  }

  /** When to renew because no beat came. */
  get askAt() {
    return this.renewing || this.stage !== "leased" ? Infinity : this.beats.askAt;
  }

  /** When the lack of any sign of life means something. */
  get silentAt() {
    return this.stage === "leased" ? this.beats.silentAt : Infinity;
  }

  /** Whether a renewal is in flight and still in time. */
  get renewing() {
    for (const renewal of this.renewals.values()) if (!renewal.timedOut) return true;
    return false;
  }

  /** When the first answer that is due will be missed; requests are answered in the order they were sent. */
  get _missedAt() {
    let request = Infinity;
    for (const each of this.requests.values()) {
      if (!each.timedOut) {
        request = each.question.sent;
        break;
      }
    }
    let renewal = Infinity;
    for (const each of this.renewals.values()) {
      if (!each.timedOut) {
        renewal = each.sent;
        break;
      }
    }
    return Math.min(this._waitsSince(request), this._waitsSince(renewal)) + this.timeout;
  }

  /** @param {number} sent */
  _waitsSince(sent) {
    return sent >= this.pageSent ? Math.max(sent, this.pageAt) : sent;
  }
}
