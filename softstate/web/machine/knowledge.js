/**
 * The client's knowledge and its greatest age: versions, certificates, the position, resets and sweeps.
 *
 * A certificate is an answer that lets the client state its age: it covers every change up to a revision, and its age
 * counts from the moment the request was sent. Every request takes a serial number from one counter, and so does every
 * event that makes the answers to earlier requests worth less.
 */

import { Certificate } from "./certificate.js";
import { digestText, nameHash } from "./digest.js";
import { KnownTopics } from "./known.js";
import { isPrefix, reaching } from "./names.js";
import { Question, sameLineage } from "./question.js";

/** The slowest that a client's clock is taken to run: its age is never below real staleness while that holds (S5). */
export const CLOCK_RATE_MIN = 0.99;

/**
 * @typedef {import("./known.js").Change} Change
 * @typedef {import("./errors.js").Position} Position
 */

/** @param {string} topic */
const isNone = (topic) => !topic || isPrefix(topic);

export class Knowledge {
  constructor() {
    /** @type {Map<string, Certificate>} */
    this.subscriptions = new Map();
    /** @type {Position | null} */
    this.position = null;
    this.lease = 0;
    this.dropped = 0;
    /** Resets since the whole set last had an age. */
    this.resets = 0;
    this._known = new KnownTopics();
    /** @type {Map<string, number>} */
    this._tombstones = new Map();
    /** @type {Set<string>} topics deleted by a sweep, whose version is above what the store holds (P-SUB-11) */
    this._swept = new Set();
    /**
     * Of each unreadable topic: the revision of the answer that said so last, the serial of its request, the revision
     * of the first such answer, and what was certified already when it came.
     * @type {Map<string, [number, number, number, number]>}
     */
    this._unreadable = new Map();
    this._serial = 0;
    this._resetSerial = 0;
    this._digest = 0n;
  }

  // The set

  /**
   * Take names into the set, uncertified.
   * @param {Iterable<string>} names
   * @returns {string[]} those that were not in it
   */
  add(names) {
    const added = [];
    for (const name of names) {
      if (this.subscriptions.has(name)) continue;
      this.subscriptions.set(name, new Certificate(name, this._serial));
      this._digest += nameHash(name);
      added.push(name);
    }
    return added;
  }

  /**
   * Take names out of the set and forget what no other name covers.
   * @param {Iterable<string>} names
   * @returns {string[]} those that were in it
   */
  remove(names) {
    const removed = [];
    for (const name of names) {
      if (!this.subscriptions.delete(name)) continue;
      this._digest -= nameHash(name);
      removed.push(name);
    }
    for (const name of removed) {
      const bare = name.replace(/\/+$/, "");
      if (reaching(bare).some((prefix) => prefix !== name && this.subscriptions.has(prefix))) continue;
      for (const topic of this._below(name, this.subscriptions)) this._forget(topic);
    }
    if (removed.length) {
      for (const topic of [...this._unreadable.keys()]) {
        if (!this._covering(topic).length) this._unreadable.delete(topic);
      }
    }
    return removed;
  }

  /**
   * The digest and the count of the set, as `renew` carries them, in one text.
   * @returns {string}
   */
  get digest() {
    return `${digestText(this._digest)} ${this.subscriptions.size}`;
  }

  /**
   * Return the greatest age among `names` (null: all): infinite while one of them is uncertified (P-KNOW-8).
   * @param {number} now
   * @param {Iterable<string> | null} [names]
   * @returns {number}
   */
  age(now, names = null) {
    let oldest = now;
    let [leftOut, counted] = [false, false];
    for (const name of names ?? this.subscriptions.keys()) {
      if (this._unreadable.has(name)) {
        leftOut = true;
        continue;
      }
      counted = true;
      oldest = Math.min(oldest, this.subscriptions.get(name)?.asof ?? -Infinity);
    }
    return leftOut && !counted ? Infinity : (now - oldest) / CLOCK_RATE_MIN;
  }

  /**
   * @param {string[] | null} [names]
   * @returns {string[]} the topics covered by `names` (null: all) that are unreadable, as far as is known
   */
  unreadable(names = null) {
    const topics = [...this._unreadable.keys()];
    if (!names) return topics;
    const wanted = new Set(names);
    return topics.filter((topic) => [topic, ...reaching(topic)].some((name) => wanted.has(name)));
  }

  /** The lowest certified revision of the set; null while one has none, or it is empty (P-RES-4). */
  lowestRevision() {
    let lowest = null;
    for (const held of this.subscriptions.values()) {
      if (held.revision === null || held.lists) return null;
      lowest = lowest === null ? held.revision : Math.min(lowest, held.revision);
    }
    return lowest;
  }

  /**
   * @param {string} name
   * @returns {Change[]} the newest known state of every topic it covers; after a reset, old values have version 0
   */
  known(name) {
    return this._below(name).map((topic) => /** @type {Change} */ (this._known.states.get(topic)));
  }

  nextSerial() {
    return ++this._serial;
  }

  /**
   * Make a request about `names` (all in the set), with what is known of them already.
   * @param {Iterable<string>} names
   * @param {number} now
   * @param {number} [lease]
   * @returns {Question}
   */
  ask(names, now, lease = 0) {
    const since = new Map();
    for (const name of names) {
      if (isPrefix(name)) {
        const held = /** @type {Certificate} */ (this.subscriptions.get(name));
        since.set(name, held.lists ? 0 : (held.revision ?? 0));
      } else {
        since.set(name, this._swept.has(name) ? 0 : (this._known.states.get(name)?.version ?? 0));
      }
    }
    return new Question(this.nextSerial(), now, since, this.position, lease);
  }

  /** Begin another lease, or none: no renewal certifies what an earlier one held. */
  beginLease() {
    this.lease += 1;
  }

  /** @param {number} serial the request that resumed a session, whose replay follows */
  resume(serial) {
    for (const held of this.subscriptions.values()) held.resumed(serial, this.lease);
  }

  /**
   * Tell whether what a path brings may be used: it and the client are surely in one history (P-REW-7).
   * @param {Position | null} latest the newest position that the path named
   * @param {Position | null} base the client's position that its request carried, or that it last moved
   * @returns {boolean}
   */
  usable(latest, base) {
    const own = this.position;
    if (own === base || (sameLineage(own, base) && own?.revision === base?.revision)) return true;
    return sameLineage(latest, own);
  }

  /**
   * Move the client's position forward, never back (P-REW-2).
   * @param {Position} position
   * @returns {boolean} whether it moved
   */
  move(position) {
    if (this.position && position.revision <= this.position.revision) return false;
    this.position = position;
    return true;
  }

  /**
   * Take a change over if it is news (P-KNOW-1, P-KNOW-2).
   * @param {Change} change
   * @returns {boolean} whether it was
   */
  apply(change) {
    const damage = this._unreadable.get(change.topic);
    return this._apply(change, this._covering(change.topic), damage !== undefined && change.version > damage[0]);
  }

  /**
   * Apply one page of an answer, read at `revision`, which may turn out cut off (P-KNOW-9).
   * @param {Question} question
   * @param {Change[]} changes
   * @param {number} revision
   * @returns {Change[]} the news
   */
  applyPage(question, changes, revision) {
    if (question.serial <= this._resetSerial) return [];
    const fresh = [];
    /** @type {Map<string, Certificate[]>} the topics of a page have few prefixes between them */
    const above = new Map();
    for (const change of changes) {
      const topic = change.topic;
      question.listed.add(topic);
      const parent = topic.slice(0, topic.lastIndexOf("/") + 1);
      let covering = above.get(parent);
      if (!covering) above.set(parent, (covering = this._above(topic)));
      const own = this.subscriptions.get(topic);
      if (own) covering = [...covering, own];
      if (this._apply(change, covering, this._later(question, topic, revision))) fresh.push(change);
    }
    return fresh;
  }

  /**
   * Note which topics a page calls unreadable, as of `revision`. They count as listed, so that no sweep takes them.
   * @param {Question} question
   * @param {string[]} topics
   * @param {number} revision
   * @returns {string[]} those that were not so before
   */
  applyUnreadable(question, topics, revision) {
    if (question.serial <= this._resetSerial) return [];
    const fresh = [];
    for (const topic of topics) {
      question.listed.add(topic);
      const covering = this._covering(topic);
      const known = this._known.states.get(topic);
      if (isNone(topic) || !covering.length || (known && known.version > revision)) continue;
      question.unreadable.add(topic);
      const before = this._unreadable.get(topic);
      if (!before) fresh.push(topic);
      const knownTo = Math.max(...covering.map((held) => held.revision ?? 0));
      const [last, serial, first, upTo] = before ?? [0, 0, revision, knownTo];
      this._unreadable.set(topic, [Math.max(revision, last), Math.max(question.serial, serial), first, upTo]);
    }
    return fresh;
  }

  /**
   * Take a complete answer, all of whose pages were applied, as a certificate (P-KNOW-3). Names denied must have been
   * removed before.
   * @param {Question} question
   * @param {number} revision that of the last page
   * @param {number} lag
   * @param {string[]} compacted
   * @returns {Change[]} what it sweeps
   */
  finish(question, revision, lag, compacted) {
    if (question.serial <= this._resetSerial) return [];
    const { serial, sent, lease } = question;
    const certified = [...question.since.keys()].filter((name) =>
      this.subscriptions.get(name)?.answered(serial, lease, revision, sent - lag),
    );
    if (this.resets && [...this.subscriptions.values()].every((held) => held.asof > -Infinity)) this.resets = 0;
    const whole = certified.filter((name) => question.since.get(name) === 0 || compacted.includes(name));
    this._heal(question, whole, revision);
    const swept = this._sweep(question, whole, revision);
    this._forgetTombstones();
    return swept;
  }

  /**
   * Take a matching `renewed` as a certificate for the set as it was when `renew` was sent (P-KNOW-4).
   * @param {number} serial
   * @param {number} sent
   * @param {number} revision
   * @param {number} lag
   */
  renewed(serial, sent, revision, lag) {
    if (serial <= this._resetSerial) return;
    for (const held of this.subscriptions.values()) held.renewed(serial, this.lease, revision, sent - lag);
    this._forgetTombstones();
  }

  /**
   * Take a beat as a certificate for what the present lease is known to hold (P-BEAT-5).
   * @param {number} revision
   * @param {number} asof
   */
  beaten(revision, asof) {
    let moved = false;
    for (const held of this.subscriptions.values()) {
      if (held.beaten(this.lease, revision, asof)) moved = true;
    }
    if (moved) this._forgetTombstones();
  }

  /**
   * Tell whether a name has been in the set since before request `serial`.
   * @param {string} name
   * @param {number} serial
   */
  heldBefore(name, serial) {
    const held = this.subscriptions.get(name);
    return !!held && held.added < serial;
  }

  /** @param {number} serial of a request; tell whether no name has come into the set since it was sent */
  unchangedSince(serial) {
    return [...this.subscriptions.values()].every((held) => held.added < serial);
  }

  /** @param {number} serial tell whether a name asked for before it is not known to be in the present lease */
  unanswered(serial) {
    return [...this.subscriptions.values()].some((held) => held.lease !== this.lease && held.added < serial);
  }

  /**
   * Note that a change of `topic` may be missing (P-KNOW-7).
   * @param {string} topic
   * @returns {string[]} the names that cover it, now blocked
   */
  doubt(topic) {
    return this._covering(topic).map((held) => {
      held.doubted(this._serial);
      return held.name;
    });
  }

  /** @param {Iterable<string>} names whose history is gone, so that they must be listed from 0 */
  relist(names) {
    for (const name of names) this.subscriptions.get(name)?.compacted(this._serial);
  }

  /** @param {Position} position where another history begins (P-REW-5): values stay readable, of no version or age */
  reset(position) {
    this.position = position;
    this.resets += 1;
    this._resetSerial = this._serial;
    const states = [...this._known.states.values()].filter((state) => !state.deleted);
    this._known.replace(states.map(({ topic, value }) => ({ topic, version: 0, value, deleted: false })));
    this._tombstones.clear();
    this._swept.clear();
    this._unreadable.clear();
    this.beginLease();
    for (const held of this.subscriptions.values()) held.reset();
  }

  // Inside

  /**
   * @param {Change} change
   * @param {Certificate[]} covering
   * @param {boolean} heals
   * @returns {boolean}
   */
  _apply(change, covering, heals) {
    const { topic, version } = change;
    if (heals) {
      const [, , told, knownTo] = /** @type {number[]} */ (this._unreadable.get(topic));
      this._unreadable.delete(topic);
      heals = !(told < version && version <= knownTo);
    }
    if (!covering.length) return false;
    const known = this._known.states.get(topic);
    if (!known) {
      if (isNone(topic)) return false;
    } else if (version <= known.version) {
      if (version < known.version) this.dropped += 1;
      return false;
    }
    if (version === 0) return false;
    if (!heals && covering.some((held) => held.revision !== null && version <= held.revision)) return false;
    this._keep(change);
    return true;
  }

  /** @param {string} topic */
  _covering(topic) {
    const own = this.subscriptions.get(topic);
    return own ? [own, ...this._above(topic)] : this._above(topic);
  }

  /**
   * @param {string} topic
   * @returns {Certificate[]}
   */
  _above(topic) {
    const found = [];
    for (const name of reaching(topic)) {
      const held = this.subscriptions.get(name);
      if (held) found.push(held);
    }
    return found;
  }

  /**
   * @param {string} name
   * @param {{has(name: string): boolean} | null} [but]
   */
  _below(name, but = null) {
    if (isPrefix(name)) return this._known.below(name, but);
    return this._known.states.has(name) ? [name] : [];
  }

  /** @param {string} topic */
  _forget(topic) {
    this._known.forget(topic);
    this._tombstones.delete(topic);
    this._swept.delete(topic);
  }

  /** @param {Change} change */
  _keep(change) {
    this._known.keep(change);
    this._swept.delete(change.topic);
    if (change.deleted) this._tombstones.set(change.topic, change.version);
    else this._tombstones.delete(change.topic);
  }

  /**
   * Note the topics that a complete answer was about, and that it no longer calls unreadable.
   * @param {Question} question
   * @param {string[]} whole
   * @param {number} revision
   */
  _heal(question, whole, revision) {
    const listed = new Set(whole);
    for (const topic of [...this._unreadable.keys()]) {
      const asked = question.since.has(topic) || reaching(topic).some((name) => listed.has(name));
      if (asked && !question.unreadable.has(topic) && this._later(question, topic, revision)) {
        this._unreadable.delete(topic);
      }
    }
  }

  /**
   * @param {Question} question
   * @param {string} topic
   * @param {number} revision
   * @returns {boolean} whether a topic is unreadable by an answer before this one
   */
  _later(question, topic, revision) {
    const damage = this._unreadable.get(topic);
    return !!damage && damage[0] <= revision && damage[1] < question.serial;
  }

  /**
   * Delete what a full answer did not list, unless a later revision certified it elsewhere (P-SUB-10).
   * @param {Question} question
   * @param {string[]} whole
   * @param {number} revision
   * @returns {Change[]}
   */
  _sweep(question, whole, revision) {
    const swept = [];
    for (const topic of new Set(whole.flatMap((name) => this._below(name)))) {
      const known = /** @type {Change} */ (this._known.states.get(topic));
      if (known.deleted || known.version >= revision || question.listed.has(topic)) continue;
      if (this._covering(topic).every((held) => held.revision === null || held.revision <= revision)) {
        const gone = { topic, version: revision, value: null, deleted: true };
        this._keep(gone);
        this._swept.add(topic);
        swept.push(gone);
      }
    }
    return swept;
  }

  /** Forget tombstones that certificates make superfluous. Those of single topics stay, one per subscription. */
  _forgetTombstones() {
    for (const [topic, version] of [...this._tombstones]) {
      if (this.subscriptions.has(topic) && !this._swept.has(topic)) continue;
      if (this._covering(topic).every((held) => held.revision !== null && held.revision >= version)) {
        this._forget(topic);
      }
    }
  }
}
