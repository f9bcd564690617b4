/**
 * Which URLs refuse connections: what all paths of a client share (P-CLI-13). A dial is refused if no connection came
 * to be: then neither path dials before a time that is drawn, and one dial, the probe, decides for both.
 */

/** Part of the time for which a URL has refused within which the next dial to it is drawn. */
const OF_ABSENCE = 0.5;

export class Reach {
  /** @param {import("./backoff.js").Random} random */
  constructor(random) {
    this._random = random;
    /** @type {Map<string, {since: number, allowed: number}>} */
    this._refusing = new Map();
  }

  /**
   * Take note that no connection to `url` came to be; draw when the next dial to it may begin. `placed`: the time of
   * this dial was drawn from a spread itself.
   * @param {string} url
   * @param {number} now
   * @param {import("./backoff.js").Advice} advice
   * @param {number} spread
   * @param {boolean} placed
   */
  refused(url, now, advice, spread, placed) {
    let known = this._refusing.get(url);
    if (known) {
      placed = true;
    } else {
      known = { since: now, allowed: now };
      this._refusing.set(url, known);
    }
    const bound = Math.min(advice.cap, Math.max(advice.base, OF_ABSENCE * (now - known.since)));
    const place = placed ? spread : this._random.uniform(0, spread);
    known.allowed = now + Math.max(place, this._random.uniform(0, bound));
  }

  /**
   * Take note that no connection to `url` came to be, whose next dial is planned for `until` already.
   * @param {string} url
   * @param {number} now
   * @param {number} until
   */
  wait(url, now, until) {
    const known = this._refusing.get(url);
    if (known) known.allowed = until;
    else this._refusing.set(url, { since: now, allowed: until });
  }

  /**
   * Take note of any other outcome of a dial; tell whether `url` had refused before.
   * @param {string} url
   * @returns {boolean}
   */
  reached(url) {
    return this._refusing.delete(url);
  }

  /** Take every URL for one that may take connections again. */
  forget() {
    this._refusing.clear();
  }

  /**
   * Take note that a dial to `url` begins, the only one until `until` or until its outcome is known.
   * @param {string} url
   * @param {number} until
   */
  probe(url, until) {
    const known = this._refusing.get(url);
    if (known) known.allowed = until;
  }

  /**
   * @param {string} url
   * @returns {boolean}
   */
  refuses(url) {
    return this._refusing.has(url);
  }

  /**
   * @param {string} url
   * @returns {number} from when on `url` may be dialled
   */
  allowedAt(url) {
    return this._refusing.get(url)?.allowed ?? -Infinity;
  }
}
