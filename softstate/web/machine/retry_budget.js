/** Offline: one retry budget for both paths, so that a client without any node tries one thing at a time. */

/** Counts failed rounds until the client is offline; from then on decides when which path tries again. */
export class RetryBudget {
  /**
   * @param {import("./core.js").Core} core
   * @param {import("./push_path.js").PushPath} push
   * @param {import("./poll_path.js").PollPath} poll
   */
  constructor(core, push, poll) {
    this._core = core;
    this._push = push;
    this._poll = poll;
    this._due = Infinity;
    this._pushTurn = false;
  }

  /** When the next attempt is due. */
  deadline() {
    const core = this._core;
    return core.mode === "offline" && !this._attempting && !core.credentials.held ? this._due : Infinity;
  }

  /** Make the attempt that is due: the paths take turns, unless no URL takes connections, which is so for both. */
  tick() {
    const { now } = this._core;
    if (now < this.deadline()) return;
    const [connectAt, pollAt] = this._allowedAt();
    this._due = Math.min(connectAt, pollAt);
    if (this._due > now) return;
    this._due = Infinity;
    if (connectAt <= now && (this._pushTurn || pollAt > now || this._probeAt !== null)) {
      this._push.connect();
    } else {
      this._poll.poll();
      if (!this._poll.inFlight) this._endRound(); // every question was turned down before: that is no attempt
    }
    this._pushTurn = !this._pushTurn;
  }

  /**
   * Count a failure of a path. Only rounds of polls count; of connections too, while there is nothing to poll, or
   * nothing that nodes have not turned down, or no URL takes any, which polls would meet too (P-CLI-15).
   * @param {import("./backoff.js").Rotation} rotation
   */
  failed(rotation) {
    const core = this._core;
    const shares = rotation === this._poll.rotation || rotation === this._push.rotation;
    if (core.mode === "offline" && !shares) return; // publishes have a backoff of their own
    const polls = core.knowledge.subscriptions.size && this._poll.asksAt <= core.now;
    const tells = rotation === this._poll.rotation || !polls;
    if (rotation.roundOver && (tells || (shares && this._probeAt !== null))) core.failures += 1;
    if (core.mode === "offline") this._endRound();
    else if (core.failures >= core.options.offline_after && !this._push.open) core.fire("OFFLINE_THRESHOLD");
  }

  /** Begin: the client has just gone offline. */
  share() {
    this._endRound();
  }

  /** @param {number} [within] how soon to make the next attempt: within one backoff cap if names were added */
  hurry(within = this._core.advice.cap) {
    this._due = Math.min(this._due, this._core.now + within);
  }

  /** Give both paths their own budgets again. */
  resumePaths() {
    const core = this._core;
    if (core.options.push && !this._push.connection) {
      const earliest = Math.max(core.now, this._push.rotation.notBefore);
      this._push.connectAt = earliest + core.advice.pause(core.random, 0);
    }
    if (this._poll.pollAt === Infinity) this._poll.schedule(core.spread(core.advice.pollSpread));
  }

  /** When the next probe is due, if no URL of either path takes connections; else null. */
  get _probeAt() {
    const polls = this._poll.rotation.probeAt;
    if (polls === null || !this._core.options.push) return polls;
    const connections = this._push.rotation.probeAt;
    return connections === null ? null : Math.min(polls, connections);
  }

  /** Whether an attempt is under way, or the next URL of its round is about to be tried. */
  get _attempting() {
    const due = Math.min(this._poll.pollAt, this._push.connectAt);
    return !!this._push.connection || this._poll.inFlight || due < Infinity;
  }

  /** From when on a connection may be tried, and a poll; infinity for what is not wanted. */
  _allowedAt() {
    const core = this._core;
    const connectAt = core.options.push ? this._push.rotation.choose(core.now) : Infinity;
    const pollAt = core.knowledge.subscriptions.size ? this._poll.rotation.choose(core.now) : Infinity;
    return [connectAt, Math.max(pollAt, this._poll.asksAt)];
  }

  /**
   * Let the round of URLs end; then draw the time of the next, of the path whose turn it is. A URL that asked one path
   * to be left alone is left alone by both.
   */
  _endRound() {
    const core = this._core;
    const { now, advice } = core;
    if (this._poll.pollAt > now) this._poll.pollAt = Infinity;
    if (this._push.connectAt > now) this._push.connectAt = Infinity;
    const tries = Math.max(core.failures - core.options.offline_after, 0);
    this._push.rotation.heed(this._poll.rotation);
    this._poll.rotation.heed(this._push.rotation);
    const probeAt = this._probeAt;
    if (probeAt !== null) {
      this._due = probeAt;
      return;
    }
    const spread = Math.max(core.options.push ? advice.recoverSpread : 0, advice.pollSpread);
    this._due = Math.max(now + advice.pause(core.random, tries, spread), Math.min(...this._allowedAt()));
  }
}
