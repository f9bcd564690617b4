/** Beats of one connection: their proof, in the client's own time, and the meaning of silence (P-BEAT-6, P-BEAT-7). */

/** The least that passes here while 1 s passes on the node's clock: each may be wrong by 1 % (S5). */
const RATE = 0.98;
/** A beat is late when nothing came for this many times the time after which it was due. */
const LATE = 1.2;
const PATIENCE_S_MIN = 1;
const ROUND_TRIPS = 4;
/** A timer that fires so much too late tells that this process was held up. */
const HELD_UP_S = 0.25;
const ROUND_TRIP_KEPT = 0.8;

export class BeatWatch {
  constructor() {
    /** How long the node may take to answer. */
    this.timeout = Infinity;
    /** Time within which the next beat is due; 0: there are none. */
    this.every = 0;
    /** The longest that the lack of beats is put up with, once they have been missing. */
    this.lullMax = Infinity;
    /** When anything came last: each message is a sign of life. */
    this.heardAt = -Infinity;
    this.missing = 0;
    this._sent = 0;
    /** @type {number | null} */
    this._clock = null;
    this._roundTrip = 0;
    this._jitter = 1;
    this._asked = false;
    this._told = false;
    this._excused = false;
  }

  // The proof in a beat

  /**
   * Take the answer to a request that was sent at `sent` for an anchor, if it is better than the last.
   * @param {number} sent
   * @param {number} now
   * @param {number | null | undefined} clockMs
   */
  answered(sent, now, clockMs) {
    if (!this.every || clockMs == null) return;
    this._roundTrip = Math.max(now - sent, this._roundTrip * ROUND_TRIP_KEPT);
    const clock = clockMs / 1000;
    if (this._clock === null || sent - RATE * clock > this._sent - RATE * this._clock) {
      this._sent = sent;
      this._clock = clock;
    }
  }

  /**
   * Return a time at which the node's clock had not reached `clockMs` yet; null if that cannot be told.
   * @param {number} clockMs
   * @param {number} now
   * @returns {number | null}
   */
  asof(clockMs, now) {
    if (this._clock === null) return null;
    const passed = clockMs / 1000 - this._clock;
    const asof = this._sent + (passed >= 0 ? RATE * passed : passed);
    if (asof > now) {
      this.forgetAnchor(); // one in the future proves that a clock is broken
      return null;
    }
    return asof;
  }

  /** Take no beat for a certificate until the next answer comes. */
  forgetAnchor() {
    this._clock = null;
  }

  /** Take note that a lease begins: beats are missing for a known reason, and the node may have slept. */
  beginAgain() {
    this.missing = 0;
    this.forgetAnchor();
  }

  // The meaning of silence

  /**
   * Take over how often beats are due, and how long to put up with their absence at most.
   * @param {number} everyMs
   * @param {number} lullMax
   * @param {number} now
   */
  grant(everyMs, lullMax, now) {
    this.every = everyMs / 1000;
    this.lullMax = lullMax;
    this.heard(now);
  }

  /** @param {number} now when a sign of life came */
  heard(now) {
    if (!this.every) return;
    if (this._asked) this.missing += 1;
    this.heardAt = now;
    this._asked = this._told = this._excused = false;
  }

  /**
   * Take note of a beat, also of one without proof; `jitter`, of 0 to 1, spreads clients that miss the next. One of a
   * node that granted none promises no other: it is not watched for.
   * @param {number} nextMs
   * @param {number} jitter
   */
  beaten(nextMs, jitter) {
    if (!this.every) return;
    this.every = nextMs / 1000;
    this.missing = 0;
    this._jitter = jitter;
  }

  /** When to ask the node whether it lives. */
  get askAt() {
    if (!this.every || this._asked) return Infinity;
    return this.heardAt + this._lull + (this._jitter * this._patience) / 2;
  }

  /** When the connection counts as silent. */
  get silentAt() {
    return this.every && !this._told ? this.heardAt + this._lull + this._patience : Infinity;
  }

  /** Take note that the node was asked. */
  asked() {
    this._asked = true;
  }

  /**
   * Tell whether a silence that has lasted too long is this process's own: then it may last a little longer.
   * @param {number} now
   * @returns {boolean}
   */
  excuses(now) {
    if (this._excused || now - this.silentAt < HELD_UP_S) return false;
    this._excused = true;
    this.heardAt += now + HELD_UP_S - this.silentAt;
    return true;
  }

  /** Take note that the silence was acted on. */
  told() {
    this._told = true;
  }

  get _lull() {
    const lull = LATE * this.every;
    return Math.max(Math.min(lull * 2 ** this.missing, this.lullMax), lull);
  }

  get _patience() {
    return Math.min(Math.max(ROUND_TRIPS * this._roundTrip, PATIENCE_S_MIN), this.timeout);
  }
}
