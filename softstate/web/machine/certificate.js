/**
 * The certificate of one name: up to which revision everything is known, since when, and what is in doubt.
 *
 * Doubts: "" none; "change", one may be missing that no renewal brings; "history", what was between is compacted, so
 * it is listed from 0; "listing", a resumed session has replayed it, and the next request still lists from 0.
 */

/** @typedef {"" | "change" | "history" | "listing"} Doubt */

export class Certificate {
  /**
   * @param {string} name
   * @param {number} added serial at which it came into the set: only requests sent later can certify it
   */
  constructor(name, added) {
    this.name = name;
    this.added = added;
    /** @type {number | null} every change up to here that it covers is known; null: no evidence */
    this.revision = null;
    /** When the request was sent (less its lag) from which the age counts. */
    this.asof = -Infinity;
    /** The lease under which an answer, or a resumption, put it: matching renewals certify only those. */
    this.lease = 0;
    /** The lease under which it was certified last: beats certify only those. */
    this.vouched = 0;
    /** Serial of the last doubt: requests sent before it certify nothing. */
    this.blocked = 0;
    /** @type {Doubt} */
    this.doubt = "";
  }

  /** Whether the next request must ask from 0. */
  get lists() {
    return this.doubt === "history" || this.doubt === "listing";
  }

  /** Whether the next answer brings all there is, and not only what changed. */
  get whole() {
    return this.revision === null || this.lists;
  }

  /**
   * Take a complete answer to request `serial`, which joins `lease` unless that is 0 (P-KNOW-3).
   * @param {number} serial
   * @param {number} lease
   * @param {number} revision
   * @param {number} asof
   * @returns {boolean} whether it certifies
   */
  answered(serial, lease, revision, asof) {
    if (this.added >= serial) return false;
    if (lease) this.lease = lease;
    if (this.blocked >= serial) return false;
    this.doubt = "";
    this._certify(revision, asof);
    if (lease) this.vouched = lease;
    return true;
  }

  /**
   * Take the matching answer to renewal `serial` of `lease`, if it certifies this name (P-KNOW-4).
   * @param {number} serial
   * @param {number} lease
   * @param {number} revision
   * @param {number} asof
   */
  renewed(serial, lease, revision, asof) {
    const renewable = this.doubt === "" || this.doubt === "listing";
    if (this.lease === lease && this.added < serial && this.blocked < serial && renewable) {
      this._certify(revision, asof);
      this.vouched = lease;
    }
  }

  /**
   * Take a beat under `lease`, if it certifies this name (P-BEAT-5).
   * @param {number} lease
   * @param {number} revision
   * @param {number} asof
   * @returns {boolean} whether `revision` is news of it
   */
  beaten(lease, revision, asof) {
    if (this.vouched !== lease) return false;
    if (asof > this.asof) this.asof = asof;
    if (this.revision !== null && revision <= this.revision) return false;
    this.revision = revision;
    return true;
  }

  /** @param {number} serial the last request sent when a change may have gone missing (P-KNOW-7) */
  doubted(serial) {
    this.blocked = serial;
    this.vouched = 0;
    this.doubt = this.lists ? "history" : "change";
  }

  /** @param {number} serial the last request sent when the history since `revision` was found gone */
  compacted(serial) {
    this.asof = -Infinity;
    this.blocked = serial;
    this.vouched = 0;
    this.doubt = "history";
  }

  /**
   * Join `lease`: request `serial` resumed a session, and the replay follows.
   * @param {number} serial
   * @param {number} lease
   */
  resumed(serial, lease) {
    this.lease = lease;
    this.vouched = 0;
    this.blocked = Math.max(this.blocked, serial - 1);
    this.doubt = this.lists ? "listing" : "";
  }

  /** Begin in another history. */
  reset() {
    this.revision = null;
    this.asof = -Infinity;
    this.vouched = 0;
    this.doubt = "";
  }

  /**
   * @param {number} revision
   * @param {number} asof
   */
  _certify(revision, asof) {
    this.revision = this.revision === null ? revision : Math.max(this.revision, revision);
    this.asof = Math.max(this.asof, asof);
  }
}
