/** Publishes over HTTP, for as long as no connection can take them: one request at a time. */

import { Rotation, asked } from "./backoff.js";
import { HTTP, RETRIED } from "./publish_queue.js";
import { FOREIGN, bars } from "./core.js";

/** How long a round over all URLs may take; each try gets its part. */
const ROUND_S_MAX = 5;
const TRY_S_MIN = 1;

export class PublishPath {
  /** @param {import("./core.js").Core} core */
  constructor(core) {
    this._core = core;
    this._rotation = new Rotation(core.options.urls, core.random);
    /** @type {number | null} */
    this._request = null;
    /** @type {number[]} */
    this._tickets = [];
    /** @type {string | null} the token that the request in flight presents */
    this._token = null;
    this._notBefore = -Infinity;
    this._roundEnds = Infinity;
    /** Until when publishes wait for the first connection. */
    this.waitUntil = Infinity;
    /** That of the request in flight. */
    this.deadline = Infinity;
  }

  get inFlight() {
    return this._request !== null;
  }

  /** From when on publishes go over HTTP, if no connection is open. */
  get due() {
    if (this._core.credentials.held) return Infinity;
    return this._core.mode === "connecting" ? Math.max(this.waitUntil, this._notBefore) : this._notBefore;
  }

  /** Send what is ready, in one request, if a URL may be asked. */
  send() {
    const core = this._core;
    const rotation = this._rotation;
    if (rotation.fresh) {
      this._roundEnds = core.now + Math.min(ROUND_S_MAX, core.pollTimeout);
      if (core.answeredUrl !== null) rotation.beginAt(core.answeredUrl);
    }
    this._notBefore = rotation.choose(core.now);
    if (this._notBefore > core.now) return;
    const { tickets, batch } = core.queue.overHttp(core.now);
    this._tickets = tickets;
    this._request = core.number();
    this._token = core.credentials.cell.token;
    const timeout_s = Math.max((this._roundEnds - core.now) / rotation.left, TRY_S_MIN);
    this.deadline = core.now + timeout_s;
    core.act({ do: "send_publish", request: this._request, url: rotation.url, batch, timeout_s });
  }

  /** Give up the request in flight; its publishes wait again. */
  stop() {
    if (this._request === null) return;
    this._core.act({ do: "abandon", request: this._request });
    this._request = null;
    this._core.queue.lost(HTTP);
  }

  /** Give up a request that takes too long. */
  tick() {
    if (this._request === null || this._core.now < this.deadline) return;
    this.stop();
    this._failed(0);
  }

  /**
   * Take the verdicts of a request.
   * @param {number} request
   * @param {any[]} results
   */
  answered(request, results) {
    if (request !== this._request) return;
    this._request = null;
    const core = this._core;
    if (results.length !== this._tickets.length) {
      core.queue.lost(HTTP);
      this._failed(0);
      return;
    }
    this._rotation.succeeded();
    core.reached(this._rotation.url);
    core.answeredUrl = this._rotation.url;
    core.failures = 0;
    core.act(...core.queue.batchAnswered(this._tickets, results, core.now, core.advice));
    core.fire("HTTP_ANSWERED");
  }

  /**
   * Take the failure of a request as a whole; `unsent`: no node has seen it.
   * @param {number} request
   * @param {import("./errors.js").SoftstateError | null} error
   * @param {boolean} unsent
   */
  failed(request, error, unsent) {
    if (request !== this._request) return;
    this._request = null;
    const core = this._core;
    const { url } = this._rotation;
    core.mistrusted(url, error);
    if (error?.code === "unauthenticated") {
      core.queue.returned(HTTP, error);
      core.unauthenticated(this._token, error, url);
    } else if (error?.why === FOREIGN) {
      core.refused(url, error);
      core.queue.lost(HTTP);
      this._failed(0);
    } else if (error && bars(error)) {
      this._barred(error);
    } else if (unsent || error?.code === "not_found" || error?.code === "overloaded") {
      core.queue.returned(HTTP, error);
      if (unsent && !core.reach.refuses(url)) core.refusedDial(url, core.connectAt());
      this._failed(asked(error?.retryMs));
    } else if (!error || RETRIED.includes(error.code)) {
      core.queue.lost(HTTP);
      this._failed(asked(error?.retryMs));
    } else {
      core.act(...core.queue.batchRefused(this._tickets, error));
    }
  }

  /** @param {import("./errors.js").SoftstateError} error of a URL: if every one refuses, so are the publishes */
  _barred(error) {
    const core = this._core;
    const rotation = this._rotation;
    core.refused(rotation.url, error);
    this._notBefore = rotation.bar(rotation.url, core.now, core.advice);
    if (rotation.roundOver) {
      this._notBefore = core.now;
      rotation.notBefore = -Infinity; // the next publish asks all of them again
      for (const ticket of this._tickets) core.act(...core.queue.batchRefused([ticket], error));
    } else {
      core.queue.returned(HTTP, error);
    }
    core.pathFailed(rotation);
  }

  /** @param {number} retry */
  _failed(retry) {
    const core = this._core;
    this._notBefore = this._rotation.failed(this._rotation.url, core.now, core.advice, retry);
    core.pathFailed(this._rotation);
  }
}
