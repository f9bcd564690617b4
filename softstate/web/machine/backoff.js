/** Times of retries: jitter, backoff with full jitter (P-CLI-4), and the rotation through several URLs. */

/** Regular timers vary by this fraction either way. */
const JITTER = 0.2;
const DOUBLINGS_MAX = 30;
/** When no URL serves WebSocket, that is asked again after this many backoff caps; so is a poll that was refused. */
export const BARRED_CAPS = 10;
/** A wait that an answer asks for or advises counts as this at most. */
const RETRY_S_MAX = 3600;
export const POLL_S_MIN = 0.05;
const BACKOFF_BASE_S_MIN = 0.02;
const BACKOFF_CAP_S_MIN = 0.2;
export const RENEW_S_MIN = 0.2;
export const TIMEOUT_S_MIN = 0.1;
/** A lease that ended sooner counts as a failure, for the time until the next. */
export const LEASE_S_MIN = 5;

/** Randomness, given to the machine: `draw` returns a number in [0, 1), `publisher` 32 hex digits. */
export class Random {
  /**
   * @param {() => number} draw
   * @param {() => string} publisher
   */
  constructor(draw, publisher) {
    this.draw = draw;
    this.publisher = publisher;
  }

  /**
   * @param {number} from
   * @param {number} to
   * @returns {number}
   */
  uniform(from, to) {
    return from + (to - from) * this.draw();
  }
}

/** How to poll, come back and back off: a node's advice, given before it is needed; seconds. */
export class Advice {
  constructor(pollEvery = 15, pollSpread = 1, recoverSpread = 1, base = 0.5, cap = 30) {
    this.pollEvery = pollEvery;
    this.pollSpread = pollSpread;
    this.recoverSpread = recoverSpread;
    this.base = base;
    this.cap = cap;
  }

  /**
   * Take over what `welcome` or `renewed` says.
   * @param {{every_ms: number, spread_ms: number}} poll
   * @param {{spread_ms: number, base_ms: number, cap_ms: number}} recover
   * @returns {Advice}
   */
  static of(poll, recover) {
    return new Advice(
      Math.max(asked(poll.every_ms), POLL_S_MIN),
      asked(poll.spread_ms),
      asked(recover.spread_ms),
      Math.max(asked(recover.base_ms), BACKOFF_BASE_S_MIN),
      Math.max(asked(recover.cap_ms), BACKOFF_CAP_S_MIN),
    );
  }

  /**
   * Draw the wait after `tries` failures in a row before this one, which covers a spread.
   * @param {Random} random
   * @param {number} tries
   * @param {number} [spread]
   * @returns {number}
   */
  pause(random, tries, spread = 0) {
    const bound = Math.min(this.cap, this.base * 2 ** Math.min(tries, DOUBLINGS_MAX));
    return random.uniform(0, Math.max(bound, spread));
  }
}

/**
 * Draw one period of a regular timer: ± 20 %.
 * @param {Random} random
 * @param {number} period
 * @returns {number}
 */
export function jittered(random, period) {
  return period * random.uniform(1 - JITTER, 1 + JITTER);
}

/**
 * Return the wait that an answer asks for or advises, in seconds: an hour at most, 0 if it does not ask.
 * @param {number | null | undefined} ms
 * @returns {number}
 */
export function asked(ms) {
  return Math.min((ms || 0) / 1000, RETRY_S_MAX);
}

/**
 * One path's way through the URLs: which one to try next, and not before when.
 *
 * A failure moves on to the next URL at once; when every URL has failed in this round, it backs off first. `doors`
 * knows which URLs refuse connections: those are passed over until they may be dialled (P-CLI-13).
 */
export class Rotation {
  /**
   * @param {string[]} urls
   * @param {Random} random
   * @param {import("./reach.js").Reach | null} [doors]
   */
  constructor(urls, random, doors = null) {
    this._urls = urls;
    this._random = random;
    this._doors = doors;
    this._at = 0;
    /** @type {Set<string>} */
    this._tried = new Set();
    this._rounds = 0;
    /** @type {Map<string, number>} */
    this._until = new Map();
    /** @type {Set<string>} */
    this._barred = new Set();
    /** Until when no URL is tried: a `bye` asked for it (P-CLI-5), or all were barred (P-CLI-6). */
    this.notBefore = -Infinity;
    /** Whether the last failure was the last of its round. */
    this.roundOver = false;
  }

  /** The URL to try next. */
  get url() {
    return this._urls[this._at];
  }

  /** How many URLs are left to try in this round, the present one included. */
  get left() {
    return Math.max(new Set(this._usable.filter((url) => !this._tried.has(url))).size, 1);
  }

  /** Whether no URL has failed in this round yet. */
  get fresh() {
    return !this._tried.size;
  }

  /** @param {string} url try this one next, unless it is barred */
  beginAt(url) {
    if (!this._barred.has(url)) this._at = this._urls.indexOf(url);
  }

  /** Record that the present URL works. */
  succeeded() {
    this._tried.clear();
    this._rounds = 0;
  }

  /**
   * Move on from `url`, which asks for `retry` seconds of peace; return the time from which to try again.
   * @param {string} url
   * @param {number} now
   * @param {Advice} advice
   * @param {number} [retry]
   * @param {number} [spread]
   * @returns {number}
   */
  failed(url, now, advice, retry = 0, spread = 0) {
    this._tried.add(url);
    this._until.set(url, retry > 0 ? now + (retry + advice.pause(this._random, this._rounds, spread)) : now);
    const waiting = this._usable.filter((other) => !this._tried.has(other) && this.freeAt(other) <= now);
    this.roundOver = !waiting.length;
    if (waiting.length) {
      while (!waiting.includes(this.url)) this._advance();
      return now;
    }
    if (this.url === url) this._advance();
    const earliest = now + advice.pause(this._random, this._rounds, spread);
    this._tried.clear();
    this._rounds += 1;
    const asked = Math.min(...this._usable.map((other) => this._until.get(other) ?? now));
    return this.probeAt ?? Math.max(earliest, asked);
  }

  /**
   * Return from when on `url` may be tried.
   * @param {string} url
   * @returns {number}
   */
  freeAt(url) {
    const allowed = this._doors ? this._doors.allowedAt(url) : -Infinity;
    return Math.max(this.notBefore, allowed, this._until.get(url) ?? -Infinity);
  }

  /** When the next probe is due, if all URLs of this path refuse connections; else null. */
  get probeAt() {
    const doors = this._doors;
    if (!doors || !this._usable.every((url) => doors.refuses(url))) return null;
    return Math.min(...this._usable.map((url) => this.freeAt(url)));
  }

  /**
   * Pass over URLs that may not be tried yet; return when the present one, the first that may, may be.
   * @param {number} now
   * @returns {number}
   */
  choose(now) {
    for (let count = this._urls.length; count > 0; count--) {
      if (this.freeAt(this.url) <= now) return now;
      this._advance();
    }
    return Math.min(...this._usable.map((url) => this.freeAt(url)));
  }

  /** @param {Rotation} other leave URLs alone for as long as they asked this one for it */
  heed(other) {
    for (const [url, until] of other._until) this._until.set(url, Math.max(until, this._until.get(url) ?? until));
  }

  /** Move on to the next URL, though this one has not failed here. */
  passOver() {
    this._advance();
  }

  /**
   * Never try `url` again on this path (P-CLI-6); return when to try the next. When all are barred, all are allowed
   * again, much later.
   * @param {string} url
   * @param {number} now
   * @param {Advice} advice
   * @returns {number}
   */
  bar(url, now, advice) {
    this._barred.add(url);
    this.roundOver = !this._usable.length;
    if (this.roundOver) {
      this._barred.clear();
      this._tried.clear();
      this.notBefore = now + jittered(this._random, BARRED_CAPS * advice.cap);
      return this.notBefore;
    }
    if (this.url === url) this._advance();
    return now;
  }

  get _usable() {
    return this._urls.filter((url) => !this._barred.has(url));
  }

  _advance() {
    do {
      this._at = (this._at + 1) % this._urls.length;
    } while (this._barred.has(this.url));
  }
}
