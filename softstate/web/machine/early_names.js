/** The names that are subscribed behind hello, before the node has told its limits (P-CLI-16). */

import { Portions } from "./portions.js";

/** Names that go early to a URL that has told no limits. */
const EARLY_NAMES_MAX = 1024;
/** Close codes from here on say that the node understood what it was sent. */
const OWN_CODES_MIN = 4000;

/** The limits that each URL has told. One that ended a connection over early names is sent `hello` alone next. */
export class EarlyNames {
  /** @param {import("./core.js").Core} core */
  constructor(core) {
    this._core = core;
    /** @type {Map<string, import("./portions.js").Limits>} */
    this._told = new Map();
    /** @type {Set<string>} */
    this._alone = new Set();
  }

  /**
   * @param {string} url
   * @returns {boolean} whether anything may be sent to it behind hello
   */
  allowed(url) {
    return !this._alone.has(url);
  }

  /**
   * @param {string} url
   * @returns {string[][]} the names that it is expected to take, in order, cut into requests
   */
  portions(url) {
    const told = this._told.get(url) ?? null;
    const { subscriptions, position } = this._core.knowledge;
    const names = [...subscriptions.keys()].slice(0, told?.subscriptions ?? EARLY_NAMES_MAX);
    return new Portions(told).cut(names, position);
  }

  /**
   * Take over the limits that a URL told.
   * @param {string} url
   * @param {import("./portions.js").Limits} limits
   */
  welcomed(url, limits) {
    this._told.set(url, limits);
    this._alone.delete(url);
  }

  /**
   * Take note that a connection ended before its welcome: a message above the node's limits may be why.
   * @param {import("./connection.js").Connection} connection
   * @param {number | null} code
   */
  lost(connection, code) {
    if (connection.requests.size && (code === null || code < OWN_CODES_MIN)) this._alone.add(connection.url);
  }
}
