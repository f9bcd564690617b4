/** A subscribe or a poll in flight: the names and versions it sent, and what its pages have listed so far. */

import { isPrefix } from "./names.js";

/** Pages in a row without a newer change after which an answer counts as one without an end. */
const IDLE_PAGES_MAX = 1000;

export class Question {
  /**
   * @param {number} serial
   * @param {number} sent
   * @param {Map<string, number>} since the number sent for each name
   * @param {import("./errors.js").Position | null} base the client's position as this path knows it
   * @param {number} lease the lease that the answer joins; 0 for a poll, which joins none
   */
  constructor(serial, sent, since, base, lease) {
    this.serial = serial;
    this.sent = sent;
    this.since = since;
    this.base = base;
    this.lease = lease;
    /** @type {Set<string>} */
    this.listed = new Set();
    /** @type {Set<string>} */
    this.unreadable = new Set();
    this.newest = 0;
    this.idlePages = 0;
    this.idleSince = Infinity;
  }

  /** Whether its pages have brought nothing for so long that more of them would hardly bring anything. */
  get endless() {
    return this.idlePages > IDLE_PAGES_MAX;
  }

  /**
   * Take note of a page: the highest version in it, and whether it told of further damage.
   * @param {number} now
   * @param {number} newest
   * @param {boolean} damage
   */
  notePage(now, newest, damage) {
    if (newest > this.newest || damage) {
      this.idlePages = 0;
      this.idleSince = Infinity;
    } else {
      this.idlePages += 1;
      this.idleSince = Math.min(this.idleSince, now);
    }
    this.newest = Math.max(this.newest, newest);
  }

  /** The names as messages carry them. */
  get names() {
    return sinceOf(this.since);
  }
}

/**
 * @param {Map<string, number>} since
 * @returns {{topics?: Record<string, number>, prefixes?: Record<string, number>}}
 */
function sinceOf(since) {
  const names = [...since];
  const topics = names.filter(([name]) => !isPrefix(name));
  const prefixes = names.filter(([name]) => isPrefix(name));
  return {
    ...(topics.length && { topics: Object.fromEntries(topics) }),
    ...(prefixes.length && { prefixes: Object.fromEntries(prefixes) }),
  };
}

/**
 * @param {import("./errors.js").Position | null | undefined} one
 * @param {import("./errors.js").Position | null | undefined} other
 * @returns {boolean} whether both are in one lineage of one store
 */
export function sameLineage(one, other) {
  return !!one && !!other && one.lineage === other.lineage && one.epoch === other.epoch;
}
