/**
 * The client's credentials: one token for all paths, fetched again before it ends, and when a node refuses it.
 *
 * Without a provider there is one token for good, and a refusal stops the client. One fetch is under way at a time
 * (P-CLI-19). While `held`, no path begins anything: a token that was refused would be refused again.
 */

import { SoftstateError } from "./errors.js";

const REFRESH_FROM = 0.7;
/** A token is fetched again when a part of its time between these is over, so that clients do not fetch together. */
const REFRESH_UPTO = 0.85;
/** In their last second nodes take credentials to be over (P-AUTH-3). */
const LAST_S = 1;
export const CREDENTIALS_MARGIN = 0.99;
const FETCH_BASE_S = 1;
const FETCH_CAP_S = 60;
/** So many tokens in a row, each another one, that nodes refuse: then the provider has none that is good. */
const REFUSED_MAX = 3;
/** Refusals that say nothing of the provider. */
const MENDED_BY_WAITING = ["expired", "not_yet", "unknown_key", "revoked"];

export class Credentials {
  /**
   * @param {{token: string | null}} cell the token that all paths of one client present
   * @param {import("./backoff.js").Random} random
   * @param {boolean} provider whether there is somebody to fetch another token from
   */
  constructor(cell, random, provider) {
    this.cell = cell;
    this.provider = provider;
    this.held = false;
    /** @type {import("./core.js").Core} set by the machine that this is a part of */
    this.core = /** @type {any} */ (null);
    this._random = random;
    /** @type {number | null} */
    this._fetching = null;
    this._fetchAt = Infinity;
    this._dueAt = Infinity;
    this._endsAt = Infinity;
    /** Fetches in a row that brought no token which a node has taken. */
    this._attempts = 0;
    /** @type {string | null} the token that a node has taken last */
    this._taken = null;
    /** @type {string | null} the token that was refused last */
    this._refused = null;
    /** @type {string | null} */
    this._why = null;
    this._refusals = 0;
  }

  // Time

  deadline() {
    return this._fetching !== null || !this.provider ? Infinity : Math.min(this._fetchAt, this._dueAt);
  }

  tick() {
    if (this.core.now < this.deadline()) return;
    if (this._dueAt <= this.core.now) {
      this._dueAt = Infinity;
      this.core.fire("CREDENTIALS_DUE");
    } else {
      this.fetch();
    }
  }

  /**
   * Take note that a node took a token, and for how long it is good, from an answer to a request of `sent`.
   * @param {string | null} token
   * @param {number | null | undefined} ms
   * @param {number} sent
   */
  told(token, ms, sent) {
    if (!this.provider || token !== this.cell.token) return;
    if (token !== this._taken) {
      this._taken = token;
      this._refused = this._why = null;
      this._refusals = this._attempts = 0;
    }
    if (ms == null) return;
    const left = ms / 1000;
    const endsAt = sent + CREDENTIALS_MARGIN * left;
    if (endsAt < this._endsAt - 1) {
      this._endsAt = endsAt;
      const usable = Math.max(left - LAST_S, left / 2);
      this._dueAt = sent + usable * this._random.uniform(REFRESH_FROM, REFRESH_UPTO);
    }
  }

  // Fetching

  /** Fetch the first token, ahead of everything else. */
  begin() {
    if (!this.provider || this.cell.token !== null) return;
    this.held = true;
    this.fetch();
  }

  /** Fetch a token, unless that is under way, or waits for its time. */
  fetch() {
    const { now } = this.core;
    if (!this.provider || this._fetching !== null || (now < this._fetchAt && this._fetchAt < Infinity)) return;
    this._fetchAt = Infinity;
    this._fetching = this.core.number();
    this.core.act({ do: "fetch_token", number: this._fetching, rejected: this._why, attempt: this._attempts });
    this._attempts += 1;
  }

  /**
   * Take a token; tell whether it is one to go on with.
   * @param {number} number
   * @param {string} token
   * @returns {boolean}
   */
  got(number, token) {
    if (number !== this._fetching) return false;
    this._fetching = null;
    if (token === this._refused) {
      this._again(new SoftstateError("unavailable", "the token provider gave the token once more that was refused"));
      return false;
    }
    this.cell.token = token;
    this._dueAt = this._endsAt = Infinity;
    return true;
  }

  /**
   * Take note that no token came: it is fetched again after a backoff.
   * @param {number} number
   * @param {SoftstateError} error
   */
  failed(number, error) {
    if (number !== this._fetching) return;
    this._fetching = null;
    this._again(error);
  }

  /** @param {SoftstateError | null} error why a node could not judge a token now: one is presented again later */
  postpone(error) {
    if (this._fetching !== null || this._fetchAt !== Infinity) return;
    this._attempts += 1;
    this._again(error);
  }

  /** @param {SoftstateError | null} error */
  _again(error) {
    this.core.lastError = error;
    const bound = Math.min(FETCH_CAP_S, FETCH_BASE_S * 2 ** Math.min(Math.max(this._attempts - 1, 0), 16));
    this._fetchAt = this.core.now + this._random.uniform(0, bound);
  }

  // Refusals

  /**
   * @param {string | null} token
   * @returns {boolean} whether it is the one that is presented now: a refusal of an earlier one says nothing
   */
  isPresent(token) {
    return token === this.cell.token;
  }

  /** Whether no node has taken the newest token yet. */
  get fresh() {
    return this._attempts > 0;
  }

  /**
   * Take note that a node refused a token; tell whether there is hope for another one.
   * @param {string | null} token
   * @param {SoftstateError} error
   * @returns {boolean}
   */
  refused(token, error) {
    this.core.lastError = error;
    if (token !== null && token === this._refused) return true; // told already
    this._refused = token;
    this._why = error.why || "unauthenticated";
    if (!MENDED_BY_WAITING.includes(this._why) && token !== null) this._refusals += 1;
    if (this._refusals >= REFUSED_MAX) return false;
    this._dueAt = Infinity;
    if (this.fresh && this._fetching === null && this._fetchAt === Infinity) this._again(error);
    return true;
  }
}
