/** One publish of a client's queue: its fields in messages, its size, and what an error means for its outcome. */

import { SoftstateError } from "./errors.js";
import { HEAD_BYTES, textBytes } from "./portions.js";

const UNSEEN = (/** @type {string} */ topic, /** @type {string} */ why) =>
  `the publish of '${topic}' was sent and may have been applied, and asking again is refused (${why}): read the topic` +
  " to learn its outcome";

/** Errors that keep their name though an attempt may have been applied (P-CLI-17). */
const VERDICTS = ["conflict", "key_reused", "client_closed", "outcome_unknown"];
/** Stands for publisher and number where a publish has no key, when its message is measured. */
const NO_KEY = "-".repeat(64);

/**
 * @typedef {{ticket: number, topic: string, value: any, deleted: boolean, expect: number | null, key: string | null,
 *   cbor_bytes?: number, wire_bytes?: number}} PublishRequested
 * @typedef {import("./numbering.js").Numbering} Numbering
 */

/** One publish that is not settled. */
export class Entry {
  /**
   * @param {PublishRequested} asked
   * @param {number} order
   */
  constructor(asked, order) {
    this.asked = asked;
    this.order = order;
    /** @type {string | number | null} where it is in flight: a connection's number, `HTTP`, or null */
    this.path = null;
    this.sent = -Infinity;
    /** An attempt before the present one may have been applied. */
    this.maybeApplied = false;
    this.tries = 0;
    this.dropped = false;
    /** @type {SoftstateError | null} */
    this.refusal = null;
    /** @type {Numbering | null} */
    this.numbering = null;
    this.seq = 0;
  }

  /** How many bytes its message has, at most. */
  get size() {
    const { topic, key, wire_bytes = 0 } = this.asked;
    return HEAD_BYTES + textBytes(topic) + textBytes(key || NO_KEY) + wire_bytes;
  }

  /** Its place in its heap. */
  get rank() {
    return this.numbering ? this.seq : this.order;
  }

  /** Its fields in a batch. */
  get change() {
    const { topic, value, deleted, expect, key } = this.asked;
    const content = deleted ? { deleted } : { value };
    return { topic, ...content, ...(expect !== null && { expect }), ...(key !== null && { key }) };
  }

  get message() {
    const { numbering, seq, asked } = this;
    const message = { op: "publish", id: asked.ticket, ...this.change };
    if (!numbering) return message;
    const { key: _, ...unkeyed } = message;
    return { ...unkeyed, ...numbers(numbering, seq) };
  }
}

/**
 * @param {Numbering} numbering
 * @param {number} seq
 */
export function numbers({ publisher, settled }, seq) {
  return { publisher, seq, ...(settled && { settled }) };
}

/**
 * Return the outcome of a publish that ends with `error`: unknown if an attempt may have been applied (P-CLI-17).
 * @param {Entry} entry
 * @param {SoftstateError} error
 * @returns {SoftstateError}
 */
export function outcomeOf(entry, error) {
  if (!entry.maybeApplied || VERDICTS.includes(error.code)) return error;
  return new SoftstateError("outcome_unknown", UNSEEN(entry.asked.topic, error.message));
}
