/** Requests cut to a node's limits, by bytes as either codec writes them, at most (P-CLI-11). */

import { utf8 } from "./names.js";

/** Most names in one subscribe or poll; a larger set goes in several (P-CLI-9). */
export const NAMES_MAX = 1000;
/** Most bytes of one request about names, as long as no node has told its limit. */
const NAMES_BYTES_MAX = 64 * 1024;
const BATCH_BYTES_MAX = 256 * 1024;
const VALUE_BYTES_MAX = 512 * 1024;
/** All of a message but names, texts and values, at most. */
export const HEAD_BYTES = 256;
const HEAD_ITEMS = 16;
const CURSOR_BYTES = 6 * 128;

/**
 * @param {string} text
 * @param {RegExp} pattern
 */
const count = (text, pattern) => text.match(pattern)?.length ?? 0;

/**
 * @param {string} text
 * @returns {number} how many bytes a text takes, at most, in either codec
 */
export function textBytes(text) {
  return utf8(text).length + count(text, /["\\]/g) + 5 * count(text, /[\x00-\x1f\x7f]/g) + 5;
}

/**
 * @typedef {{subscriptions: number, value_bytes: number, message_bytes: number, pending: number, keys: number,
 *   key_ms: number, inflight: number, value_items: number, message_items: number}} Limits
 */

/** The limits that requests are cut to. */
export class Portions {
  /** @param {Limits | null} [limits] what a node told */
  constructor(limits = null) {
    const told = limits?.message_bytes;
    /** Names in one request. */
    this.names = limits
      ? Math.max(Math.min(NAMES_MAX, limits.subscriptions, limits.message_items - HEAD_ITEMS), 1)
      : NAMES_MAX;
    this.messageBytes = told ?? NAMES_BYTES_MAX;
    this.batchBytes = told ?? BATCH_BYTES_MAX;
    this.valueBytes = limits?.value_bytes ?? VALUE_BYTES_MAX;
    /** @type {number | null} bytes of the message of one publish; null: unknown */
    this.publishBytes = told ?? null;
  }

  /**
   * Cut names, in order, into requests; each has one name at least. `position` goes with each.
   * @param {Iterable<string>} names
   * @param {import("./errors.js").Position | null} position
   * @param {number} [most]
   * @returns {string[][]}
   */
  cut(names, position, most = NAMES_MAX) {
    let bytesMax = this.messageBytes - HEAD_BYTES - CURSOR_BYTES;
    if (position) bytesMax -= textBytes(position.epoch) + textBytes(position.lineage);
    most = Math.min(this.names, most);
    /** @type {string[][]} */
    const portions = [];
    let left = 0;
    for (const name of names) {
      const size = utf8(name).length + count(name, /["\\]/g) + 24;
      if (!portions.length || size > left || portions[portions.length - 1].length >= most) {
        portions.push([]);
        left = bytesMax;
      }
      portions[portions.length - 1].push(name);
      left -= size;
    }
    return portions;
  }
}
