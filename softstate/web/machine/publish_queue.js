/**
 * The publishes of a client: which may be sent when, which must be sent again, and which have an unknown outcome.
 *
 * Publishes of one topic go one at a time, in the order of the calls; different topics go side by side. A publish
 * carries a number or an idempotency key, so sending it again does no harm while the store remembers it; once that is
 * over and its outcome is still unknown, it ends in `outcome_unknown` (P-CLI-10).
 */

import { asked } from "./backoff.js";
import { SoftstateError, errorOf } from "./errors.js";
import { Heap, Numbering } from "./numbering.js";
import { HEAD_BYTES, Portions } from "./portions.js";
import { Entry, numbers, outcomeOf } from "./publish_entry.js";

const EXPIRED = (/** @type {string} */ topic) =>
  `the publish of '${topic}' was not answered in time: read the topic to learn its outcome`;
const FORKED = "this process is a child of fork(): the publish is its parent's; read the topic to learn its outcome";

/** Most publishes in one HTTP request. */
const BATCH_MAX = 100;
/** Life of an idempotency key, until a node says otherwise. */
const KEY_S_DEFAULT = 600;
const KEY_MARGIN = 0.9;
const NUMBERS_MAX = 1024;
/** Answers after which the same publish is sent again. */
export const RETRIED = ["unavailable", "overloaded", "behind"];
export const HTTP = "http";

/**
 * @typedef {import("./publish_entry.js").PublishRequested} PublishRequested
 * @typedef {{do: "settled", ticket: number, outcome: any}} Settled
 * @typedef {import("./backoff.js").Advice} Advice
 */

export class PublishQueue {
  /**
   * @param {import("./backoff.js").Random} random
   * @param {number} waitingMax
   * @param {number} inflightMax
   */
  constructor(random, waitingMax, inflightMax) {
    this._random = random;
    this._waitingMax = waitingMax;
    this._inflightMax = inflightMax;
    this.keySeconds = KEY_S_DEFAULT;
    this.numbersMax = NUMBERS_MAX;
    this.repeats = 0;
    this._order = 0;
    /** @type {Map<number, Entry>} */
    this._entries = new Map();
    /** @type {Map<string, Entry[]>} */
    this._byTopic = new Map();
    this._ready = new Heap();
    /** Those that may be sent now and have a number, by it: they are ahead of `_ready`. */
    this._again = new Heap();
    this._own = new Numbering(random.publisher());
    this._numberedAt = -Infinity;
    this._waiting = new Heap();
    /** @type {Map<number, Entry>} */
    this._inFlight = new Map();
    /** @type {Map<number, number>} first sending of each publish whose fate is unknown, the oldest first */
    this._unknownSince = new Map();
    this._batchMax = BATCH_MAX;
    this._portions = new Portions();
    this._unfit = false;
  }

  // The application

  /**
   * Queue a publish; it is settled at once, with `overloaded`, if too many wait already.
   * @param {PublishRequested} asked
   * @returns {Settled[]}
   */
  ask(asked) {
    const refuse = (/** @type {SoftstateError} */ outcome) => [settled(asked.ticket, outcome)];
    if (this._entries.size >= this._waitingMax) {
      const text = `${this._waitingMax} publishes are waiting already: wait for some of them, then publish again`;
      return refuse(new SoftstateError("overloaded", text));
    }
    const entry = new Entry(asked, ++this._order);
    const tooLarge = this._tooLarge(entry);
    if (tooLarge) return refuse(tooLarge);
    this._entries.set(asked.ticket, entry);
    const line = this._byTopic.get(asked.topic);
    if (line) {
      line.push(entry);
    } else {
      this._byTopic.set(asked.topic, [entry]);
      this._makeReady(entry);
    }
    return [];
  }

  /** @param {number} ticket a publish to forget; in flight, it holds back later ones of its topic */
  drop(ticket) {
    const entry = this._entries.get(ticket);
    if (!entry) return;
    if (entry.path !== null) entry.dropped = true;
    else this._remove(entry);
  }

  /** @param {Portions} portions limits: publishes too large for them are settled at the next `tick` */
  limit(portions) {
    this._portions = portions;
    this._unfit = true;
  }

  /**
   * Settle every publish with `error`, or `ifSent` if it may have been applied; no answer is heard any more.
   * @param {SoftstateError} error
   * @param {SoftstateError | null} [ifSent]
   * @returns {Settled[]}
   */
  settleAll(error, ifSent = null) {
    const all = [];
    for (const [ticket, entry] of this._entries) {
      entry.maybeApplied ||= entry.path !== null;
      if (!entry.dropped) all.push(settled(ticket, outcomeOf(entry, ifSent && entry.maybeApplied ? ifSent : error)));
    }
    const tables = [this._entries, this._byTopic, this._inFlight, this._unknownSince];
    for (const each of [...tables, this._ready, this._again, this._waiting]) each.clear();
    return all;
  }

  /** Begin in a child of fork(), with an id of its own (P-PUB-10); what the parent goes on with is settled. */
  forked() {
    this._own = new Numbering(this._random.publisher());
    return this.settleAll(new SoftstateError("outcome_unknown", FORKED));
  }

  // Sending

  /**
   * Take what may be sent on `conn` now, in order.
   * @param {number} conn
   * @param {number} now
   */
  overConnection(conn, now) {
    const taken = this._take(this._inflightMax - this._inFlight.size, Infinity, conn, now);
    return taken.map((entry) => entry.message);
  }

  /**
   * Take what may go into one HTTP request now, in order.
   * @param {number} now
   */
  overHttp(now) {
    const taken = this._take(this._batchMax, this._portions.batchBytes - HEAD_BYTES, HTTP, now);
    const changes = taken.map((entry) => entry.change);
    const tickets = taken.map((entry) => entry.asked.ticket);
    const [first] = taken;
    return { tickets, batch: { changes, ...(first?.numbering && numbers(first.numbering, first.seq)) } };
  }

  /**
   * @param {number} conn
   * @returns {number} when the oldest publish in flight on it was sent; infinity if there is none
   */
  sentSince(conn) {
    for (const entry of this._inFlight.values()) if (entry.path === conn) return entry.sent;
    return Infinity;
  }

  // Answers

  /**
   * Settle the publish that an answer is about, if it is still waited for.
   * @param {any} answer
   * @returns {Settled[]}
   */
  published(answer) {
    const entry = this._entries.get(answer.id);
    return !entry || entry.path === null ? [] : this._settle(entry, answer);
  }

  /**
   * Settle a publish in flight with `error`, or send it again later if that may help.
   * @param {number} ticket
   * @param {SoftstateError} error
   * @param {number} now
   * @param {Advice} advice
   * @returns {Settled[]}
   */
  refused(ticket, error, now, advice) {
    const entry = this._inFlight.get(ticket);
    if (!entry) return [];
    if (!RETRIED.includes(error.code)) return this._settle(entry, outcomeOf(entry, error));
    entry.refusal = error;
    if (error.code === "unavailable" && error.why !== "untried") entry.maybeApplied = true;
    else if (!entry.maybeApplied) this._unknownSince.delete(ticket);
    const wait = Math.max(asked(error.retryMs), advice.pause(this._random, entry.tries));
    entry.tries += 1;
    this._requeue(entry, now + wait);
    return [];
  }

  /** @param {string | number} path one that is no more: what was in flight on it is queued again */
  lost(path) {
    for (const entry of this._on(path)) {
      entry.maybeApplied = true;
      this._requeue(entry);
    }
    this._unfit = true;
  }

  /**
   * Queue again, in order, what no node has seen, or what a node refused unseen, as `refusal` says.
   * @param {string} path
   * @param {SoftstateError | null} [refusal]
   */
  returned(path, refusal = null) {
    for (const entry of this._on(path)) this._putBack(entry, refusal);
    this._unfit = true;
  }

  /**
   * Queue a publish in flight again that a node refused unseen, for a reason that concerns all of them.
   * @param {number} ticket
   * @param {SoftstateError} refusal
   */
  putBack(ticket, refusal) {
    const entry = this._inFlight.get(ticket);
    if (entry) this._putBack(entry, refusal);
  }

  /**
   * @param {number} ticket
   * @returns {SoftstateError | null} why it is still waiting if it is certain not to be applied
   */
  refusal(ticket) {
    const entry = this._entries.get(ticket);
    return !entry || entry.path !== null || entry.maybeApplied ? null : entry.refusal;
  }

  /**
   * Settle the publishes of an HTTP request, each with its own verdict.
   * @param {number[]} tickets
   * @param {any[]} results
   * @param {number} now
   * @param {Advice} advice
   * @returns {Settled[]}
   */
  batchAnswered(tickets, results, now, advice) {
    this._batchMax = Math.min(BATCH_MAX, this._batchMax * 2);
    const all = tickets.flatMap((ticket, i) => {
      const { code, topic = "", version = 0, position, repeated } = results[i];
      if (!code && position) {
        return this.published({ op: "published", id: ticket, topic, version, position, ...(repeated && { repeated }) });
      }
      const fault = new SoftstateError("unavailable", "a result without code and position");
      return this.refused(ticket, code ? errorOf(results[i]) : fault, now, advice);
    });
    this.lost(HTTP);
    return all;
  }

  /**
   * Settle the publish of an HTTP request that was refused as a whole; of several, find out which, one by one.
   * @param {number[]} tickets
   * @param {SoftstateError} error
   * @returns {Settled[]}
   */
  batchRefused(tickets, error) {
    if (tickets.length === 1) {
      const entry = this._inFlight.get(tickets[0]);
      return entry ? this._settle(entry, outcomeOf(entry, error)) : [];
    }
    this._batchMax = Math.max(1, tickets.length >> 1);
    this.returned(HTTP);
    return [];
  }

  // Time

  /** When something here has to be done, whether or not a path is open. */
  due() {
    const [oldest = Infinity] = this._unknownSince.values();
    return Math.min(this._waiting.first?.[0] ?? Infinity, oldest + KEY_MARGIN * this.keySeconds);
  }

  /**
   * Make ready what has waited long enough; settle publishes whose outcome can no longer be asked about.
   * @param {number} now
   * @returns {Settled[]}
   */
  tick(now) {
    for (let first = this._waiting.first; first && first[0] <= now; first = this._waiting.first) {
      const [, order, ticket] = first;
      this._waiting.pop();
      const entry = this._next(ticket);
      if (entry?.order === order) this._makeReady(entry);
    }
    const all = [];
    for (const [ticket, since] of [...this._unknownSince]) {
      if (now < since + KEY_MARGIN * this.keySeconds) break;
      const entry = /** @type {Entry} */ (this._entries.get(ticket));
      all.push(...this._settle(entry, new SoftstateError("outcome_unknown", EXPIRED(entry.asked.topic))));
    }
    if (this._unfit) all.push(...this._refuseUnfit());
    return all;
  }

  /** Whether something may be sent now. */
  get ready() {
    return this._first(Infinity) !== null;
  }

  // Inside

  /**
   * Take what goes at once: at most so many, and so many bytes, but one at least. Over HTTP they have consecutive
   * numbers, or all have keys, since a batch has one number.
   * @param {number} most
   * @param {number} bytesMax
   * @param {string | number} path
   * @param {number} now
   */
  _take(most, bytesMax, path, now) {
    /** @type {Entry[]} */
    const taken = [];
    for (let entry; taken.length < most && (entry = this._first(now)); taken.push(entry)) {
      bytesMax -= entry.size;
      if (taken.length && (bytesMax < 0 || (path === HTTP && !this._follows(entry, taken[taken.length - 1])))) break;
      (entry.numbering ? this._again : this._ready).pop();
      if (!entry.numbering && entry.asked.key === null) {
        entry.numbering = this._own;
        entry.seq = this._own.take();
        this._numberedAt = now;
      }
      if (entry.sent > -Infinity) this.repeats += 1;
      entry.path = path;
      entry.sent = now;
      this._inFlight.set(entry.asked.ticket, entry);
      if (!this._unknownSince.has(entry.asked.ticket)) this._unknownSince.set(entry.asked.ticket, now);
    }
    return taken;
  }

  /**
   * Return the publish to be sent next, null if there is none, or a node would not take its number yet.
   * @param {number} now
   * @returns {Entry | null}
   */
  _first(now) {
    const again = this._head(this._again);
    const entry = this._head(this._ready);
    if (again?.numbering?.hasRoom(again.seq, this.numbersMax)) return again;
    if (entry && entry.asked.key === null) {
      if (this._own.idle && now - this._numberedAt >= KEY_MARGIN * this.keySeconds && now < Infinity) {
        this._own = new Numbering(this._random.publisher()); // P-PUB-10: nodes may have forgotten the one before
      }
      if (!this._own.hasRoom(this._own.last + 1, this.numbersMax)) return null;
    }
    return entry;
  }

  /**
   * Drop from a heap what is not to be sent any more; return its first.
   * @param {Heap} heap
   * @returns {Entry | null}
   */
  _head(heap) {
    for (let first = heap.first; first; first = heap.first) {
      const entry = this._next(first[1]);
      if (entry?.rank === first[0]) return entry;
      heap.pop();
    }
    return null;
  }

  /**
   * @param {Entry} entry
   * @param {Entry} last
   * @returns {boolean} whether a publish may be in a batch behind another
   */
  _follows(entry, last) {
    if (!last.numbering) return !entry.numbering && entry.asked.key !== null;
    if (!entry.numbering) {
      return entry.asked.key === null && last.numbering === this._own && last.seq === last.numbering.last;
    }
    return entry.numbering === last.numbering && entry.seq === last.seq + 1;
  }

  /**
   * @param {Entry} entry
   * @returns {SoftstateError | null}
   */
  _tooLarge(entry) {
    const limits = this._portions;
    const size = entry.asked.cbor_bytes ?? 0;
    let text = "";
    if (size > limits.valueBytes) {
      text = `value is ${size} bytes encoded as CBOR, the limit (value_bytes) is ${limits.valueBytes}`;
    } else if (limits.publishBytes !== null && entry.size > limits.publishBytes) {
      text = `the message would have up to ${entry.size} bytes, the limit (message_bytes) is ${limits.publishBytes}`;
    }
    return text ? new SoftstateError("too_large", text) : null;
  }

  /** Settle what waits and is too large for the limits: sent, it would cost the connection, again and again. */
  _refuseUnfit() {
    this._unfit = false;
    const waiting = [...this._entries.values()].filter((entry) => entry.path === null);
    return waiting.flatMap((entry) => {
      const tooLarge = this._tooLarge(entry);
      return tooLarge ? this._settle(entry, outcomeOf(entry, tooLarge)) : [];
    });
  }

  /**
   * @param {number} ticket
   * @returns {Entry | null} the publish, if it is still to be sent: first of its topic and not in flight
   */
  _next(ticket) {
    const entry = this._entries.get(ticket);
    return entry && entry.path === null && this._byTopic.get(entry.asked.topic)?.[0] === entry ? entry : null;
  }

  /**
   * @param {Entry} entry
   * @param {number | null} [due]
   */
  _makeReady(entry, due = null) {
    const { ticket } = entry.asked;
    if (due !== null) this._waiting.push([due, entry.order, ticket]);
    else (entry.numbering ? this._again : this._ready).push([entry.rank, ticket]);
  }

  /** @param {string | number} path */
  _on(path) {
    return [...this._inFlight.values()].filter((entry) => entry.path === path);
  }

  /**
   * @param {Entry} entry
   * @param {SoftstateError | null} refusal
   */
  _putBack(entry, refusal) {
    entry.refusal = refusal ?? entry.refusal;
    if (!entry.maybeApplied) this._unknownSince.delete(entry.asked.ticket);
    this._requeue(entry);
  }

  /**
   * @param {Entry} entry
   * @param {number | null} [due]
   */
  _requeue(entry, due = null) {
    entry.path = null;
    this._inFlight.delete(entry.asked.ticket);
    if (entry.dropped) this._remove(entry);
    else this._makeReady(entry, due);
  }

  /**
   * @param {Entry} entry
   * @param {any} outcome
   * @returns {Settled[]}
   */
  _settle(entry, outcome) {
    this._remove(entry);
    return entry.dropped ? [] : [settled(entry.asked.ticket, outcome)];
  }

  /** @param {Entry} entry */
  _remove(entry) {
    const { ticket, topic } = entry.asked;
    for (const table of [this._entries, this._inFlight, this._unknownSince]) table.delete(ticket);
    entry.numbering?.settle(entry.seq);
    const line = /** @type {Entry[]} */ (this._byTopic.get(topic));
    const at = line.indexOf(entry);
    line.splice(at, 1);
    if (!line.length) this._byTopic.delete(topic);
    else if (at === 0) this._makeReady(line[0]);
  }
}

/**
 * @param {number} ticket
 * @param {any} outcome
 * @returns {Settled}
 */
function settled(ticket, outcome) {
  return { do: "settled", ticket, outcome };
}
