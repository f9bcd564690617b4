/**
 * The HTTP path of the client machine: rounds of polls, their pages, and their failures.
 *
 * It goes on beside the WebSocket path (P-CLI-1). One request is in flight at a time. A round asks for the whole set,
 * in portions. Every page goes through the path rule (P-REW-7). While there is no connection, a node that offers it holds
 * the polls of a client that has nothing to learn (P-CLI-20).
 */

import { BARRED_CAPS, POLL_S_MIN, Rotation, asked, jittered } from "./backoff.js";
import { bars } from "./core.js";
import { SoftstateError } from "./errors.js";
import { CLOCK_RATE_MIN } from "./knowledge.js";
import { NAMES_MAX } from "./portions.js";

/** How long after a round that had nothing to ask, since a subscribe asked it already, the next one is due. */
const LOOK_AGAIN_S = 1;
/** How long a node is asked to hold a poll, at most: many proxies cut a connection that is idle for longer. */
const WAIT_S_MAX = 25;
/** Refused questions remembered for each URL. */
const QUESTIONS_REFUSED_MAX = 256;

/**
 * @typedef {{request: number, url: string, body: any, question: import("./question.js").Question, deadline: number,
 *   token: string | null, cursors: Set<string>, held: number}} PollRequest the request in flight: `held` is how long
 *   the node has held it before it read, at least, by this client's clock
 */

/** @param {string[]} names */
const keyOf = (names) => JSON.stringify([...names].sort());

export class PollPath {
  /**
   * @param {import("./core.js").Core} core
   * @param {() => Set<string>} askedElsewhere the names whose whole state the other path is about to bring
   */
  constructor(core, askedElsewhere) {
    this._core = core;
    this._askedElsewhere = askedElsewhere;
    this.rotation = new Rotation(core.options.urls, core.random, core.reach);
    /** @type {PollRequest | null} */
    this._pending = null;
    /** @type {string[][]} */
    this._rest = [];
    this._roundSent = -Infinity;
    this.pollAt = Infinity;
    /** Whether it waits until a URL may be dialled again. */
    this._held = false;
    /** @type {Map<string, Map<string, number>>} the questions a URL has refused, and until when (P-CLI-12) */
    this._refused = new Map();
    /** @type {string | null} the set and limits for which every URL has refused all there is to ask */
    this._nothingFor = null;
    this._nothingUntil = -Infinity;
    this._namesMax = NAMES_MAX;
    /** @type {string | null} the set and the limits for which `_namesMax` was lowered */
    this._loweredFor = null;
    /** @type {string | null} the URL that answered last, and offers to hold polls */
    this._holds = null;
  }

  /** Whether a request is in flight. */
  get inFlight() {
    return this._pending !== null;
  }

  deadline() {
    const pollAt = this._core.credentials.held ? Infinity : this.pollAt;
    if (!this._pending) return pollAt;
    return this._waits ? Math.min(this._pending.deadline, pollAt) : this._pending.deadline;
  }

  /** From when on there is something to ask: a time to come if every URL has refused all of it (P-CLI-12). */
  get asksAt() {
    return this._nothingFor !== null && this._nothingFor === this._circumstances() ? this._nothingUntil : -Infinity;
  }

  /** @param {number} due when to poll, if not before. A round in flight is enough, unless the node may hold it */
  schedule(due) {
    if (!this._pending || this._waits) this.scheduleAgain(due);
  }

  /** @param {string} url of a node that does not answer: another one is polled first, if there is one */
  avoid(url) {
    if (this.rotation.url === url) this.rotation.passOver();
  }

  /** @param {number} due when to poll at the latest, if a round waits for a URL that takes connections again */
  reachChanged(due) {
    if (this._held && this.pollAt < Infinity && this.rotation.choose(this._core.now) <= this._core.now) {
      this.pollAt = Math.min(this.pollAt, due);
      this._held = false;
    }
  }

  /** @param {number} due when to poll, or else right after the round in flight, which may be too old for new names */
  scheduleAgain(due) {
    this.pollAt = Math.min(this.pollAt, due);
  }

  /** Poll no more, and give up what is in flight. */
  stop() {
    this.abandon();
    this.pollAt = Infinity;
  }

  /** Give up the round in flight. */
  abandon() {
    if (this._pending) this._core.act({ do: "abandon", request: this._pending.request });
    this._pending = this._holds = null;
    this._rest = [];
  }

  tick() {
    const core = this._core;
    const due = core.now >= this.pollAt && !core.credentials.held;
    if (this._pending && core.now >= this._pending.deadline) {
      const { url } = this._pending;
      core.reached(url); // it does not refuse: it is silent
      this.abandon();
      this._failed(url, 0);
    } else if (due && (!this._pending || this._waits)) {
      if (this._pending) this.abandon(); // something asks for an answer before the node has news
      this.poll();
    }
  }

  /** Begin a round now, or as soon as a URL may be dialled. */
  poll() {
    const core = this._core;
    this.pollAt = this.rotation.choose(core.now);
    this._held = this.pollAt > core.now;
    if (this._held) return;
    this.pollAt = Infinity;
    this._roundSent = core.now;
    if (this._loweredFor !== null && this._loweredFor !== this._circumstances()) {
      this._loweredFor = null;
      this._namesMax = NAMES_MAX;
    }
    const elsewhere = this._askedElsewhere();
    const held = core.knowledge.subscriptions;
    const names = [...held.keys()].filter((name) => !elsewhere.has(name));
    this._nothingFor = null;
    let allFree = true;
    for (let count = core.options.urls.length; count > 0; count--) {
      this._rest = core.cut(names, this._namesMax);
      const free = this.rotation.freeAt(this.rotation.url) <= core.now;
      if (free && this._nextBatch()) return;
      allFree &&= free;
      if (names.length) this.rotation.passOver(); // this node refuses every question that there is
    }
    if (names.length && !elsewhere.size && allFree) {
      this._nothingFor = this._circumstances();
      this._nothingUntil = this._firstLapse();
    }
    if (held.size) {
      this.schedule(core.now + jittered(core.random, names.length ? core.advice.pollEvery : LOOK_AGAIN_S));
    }
  }

  // Answers

  /**
   * Take one page of an answer.
   * @param {number} request
   * @param {any} message
   */
  answered(request, message) {
    const pending = this._pending;
    if (!pending || pending.request !== request) return;
    this._pending = null;
    const core = this._core;
    const { question } = pending;
    core.reached(pending.url);
    if (!core.knowledge.usable(message.position, question.base)) {
      this._historyMismatch();
      return;
    }
    if (core.knowledge.move(message.position)) question.base = message.position;
    core.takePage(question, message);
    // The node has read after the hold. No more than has passed: an age would else be of the future.
    const told = (message.held_ms / 1000) * CLOCK_RATE_MIN;
    pending.held += Math.min(told, core.now - question.sent - pending.held);
    if (message.more) {
      this._nextPage(pending, message.cursor);
      return;
    }
    core.deny(message.denied, message.narrow);
    core.credentials.told(pending.token, message.credentials_ms, question.sent);
    const { revision } = message.position;
    const lag = message.lag_ms / 1000 - pending.held;
    const offers = message.next_ms != null && asked(message.next_ms) < core.advice.pollEvery;
    this._holds = offers ? pending.url : null;
    core.deliver(core.knowledge.finish(question, revision, lag, message.compacted));
    this.rotation.succeeded();
    core.answeredUrl = pending.url;
    core.failures = 0;
    if (!this._nextBatch()) this._roundDone(message.next_ms);
    core.fire("HTTP_ANSWERED");
  }

  /**
   * Take the failure of a request; `unsent`: no stream came to be.
   * @param {number} request
   * @param {SoftstateError | null} error
   * @param {boolean} unsent
   */
  failed(request, error, unsent) {
    const pending = this._pending;
    if (!pending || pending.request !== request) return;
    this._pending = null;
    const core = this._core;
    const { url, question } = pending;
    if (unsent) core.refusedDial(url, core.connectAt());
    else core.reached(url);
    core.mistrusted(url, error);
    const code = error?.code;
    if (error && (code === "too_large" || code === "invalid" || code === "unsupported")) {
      this._turnedDown(pending, error);
      return;
    }
    this._rest = [];
    if (error && code === "unauthenticated" && !core.unauthenticated(pending.token, error, url)) return;
    if (code === "rewound" && error?.position) {
      if (core.knowledge.usable(error.position, question.base)) core.fire("REWOUND", { position: error.position });
      else this._historyMismatch();
    } else if (error && bars(error)) {
      core.refused(url, error);
      this.pollAt = this.rotation.bar(url, core.now, core.advice);
      core.pathFailed(this.rotation);
    } else if (code === "denied") {
      core.fire("FORBIDDEN", { error });
    } else {
      if (code === "compacted") core.knowledge.relist(question.since.keys());
      this._failed(url, code === "compacted" ? 0 : asked(error?.retryMs));
    }
  }

  // Inside

  /**
   * @param {PollRequest} pending
   * @param {string | null | undefined} cursor
   */
  _nextPage({ url, body, question, cursors, held }, cursor) {
    const core = this._core;
    if (cursor == null || cursors.has(cursor) || question.endless) {
      core.lastError = new SoftstateError("unavailable", `${url} announces further pages without an end`);
      this._failed(url, 0);
      return;
    }
    const elsewhere = this._askedElsewhere();
    if ([...question.since.keys()].every((name) => elsewhere.has(name))) {
      this._rest = [];
      this.schedule(core.now + LOOK_AGAIN_S);
      return; // a subscribe is bringing the rest
    }
    cursors.add(cursor);
    const wait = body.wait_ms === undefined ? {} : { wait_ms: 0 };
    this._send(url, { ...body, cursor, ...wait }, question, cursors, held);
  }

  /**
   * Report it and go on with other questions: the same one would be refused again.
   * @param {PollRequest} pending
   * @param {SoftstateError} error
   */
  _turnedDown({ url, body, question }, error) {
    const core = this._core;
    let names = [...question.since.keys()];
    const halves = error.code === "too_large" && names.length > 1;
    if (body.cursor !== undefined && !halves) {
      // The question was taken. Its cursor may be of a node of another version behind the same URL.
      core.lastError = error;
      this._failed(url, 0);
      return;
    }
    core.refused(url, error);
    if (halves) {
      // Smaller portions alone keep it from being asked again: what is noted here would outlive them.
      this._loweredFor = this._circumstances();
      this._namesMax = (names.length + 1) >> 1;
      names = [names, ...this._rest].flat();
      this._rest = core.cut(names, this._namesMax);
    } else {
      this._noteRefused(url, keyOf(names));
    }
    core.failures = 0;
    if (!this._nextBatch()) {
      this.rotation.passOver(); // another node may take what this one refused
      this._roundDone(null);
    }
    core.fire("HTTP_ANSWERED");
  }

  /**
   * Leave a URL alone with a question for a while, as if it were barred for it: nodes change.
   * @param {string} url
   * @param {string} key
   */
  _noteRefused(url, key) {
    const core = this._core;
    const refused = this._refused.get(url) ?? new Map();
    this._refused.set(url, refused);
    if (refused.size >= QUESTIONS_REFUSED_MAX) refused.clear();
    refused.set(key, core.now + jittered(core.random, BARRED_CAPS * core.advice.cap));
  }

  /** When the first question may be asked again that a URL has refused. */
  _firstLapse() {
    const { now } = this._core;
    const until = [...this._refused.values()].flatMap((refused) => [...refused.values()]);
    const lapses = until.filter((lapse) => lapse > now);
    return lapses.length ? Math.min(...lapses) : now;
  }

  /** @returns {string} the set and the limits, to be compared */
  _circumstances() {
    return this._core.knowledge.digest + JSON.stringify(this._core.limits);
  }

  /** Ask about the next names of the round; tell whether there were any left. */
  _nextBatch() {
    const core = this._core;
    const refused = this._refused.get(this.rotation.url);
    for (let portion = this._rest.shift(); portion; portion = this._rest.shift()) {
      const names = portion.filter((name) => core.knowledge.subscriptions.has(name));
      if (!names.length || (refused?.get(keyOf(names)) ?? -Infinity) > core.now) continue;
      const question = core.knowledge.ask(names, core.now);
      const { position } = core.knowledge;
      const wait_ms = this._waitFor(names);
      const wait = wait_ms === null ? {} : { wait_ms };
      const body = { ...(position && { position }), ...question.names, ...wait, ...core.told() };
      this._send(this.rotation.url, body, question, new Set());
      return true;
    }
    return false;
  }

  /** Whether the node may hold the request in flight for a while. */
  get _waits() {
    return !!this._pending?.body.wait_ms;
  }

  /**
   * Return for how long the node is to hold a poll of `names`; null for one that is never to wait (P-CLI-20).
   * @param {string[]} names
   * @returns {number | null}
   */
  _waitFor(names) {
    const { mode, knowledge, advice } = this._core;
    if ((mode !== "polling" && mode !== "offline") || names.length !== knowledge.subscriptions.size) return null;
    if (mode !== "polling" || this._holds !== this.rotation.url || knowledge.lowestRevision() === null) return 0;
    return Math.round(Math.min(advice.pollEvery, WAIT_S_MAX) * 1000);
  }

  /**
   * @param {string} url
   * @param {any} body
   * @param {import("./question.js").Question} question
   * @param {Set<string>} cursors
   * @param {number} [held]
   */
  _send(url, body, question, cursors, held = 0) {
    const core = this._core;
    const timeout_s = core.pollTimeout + (body.wait_ms ?? 0) / 1000;
    const deadline = core.now + timeout_s;
    const request = core.number();
    const { token } = core.credentials.cell;
    this._pending = { request, url, body, question, deadline, token, cursors, held };
    core.count("polls");
    core.reach.probe(url, deadline);
    core.act({ do: "send_poll", request, url, message: { op: "poll", ...body }, timeout_s });
  }

  /** @param {number | null | undefined} nextMs when nodes advise the next round, always with jitter */
  _roundDone(nextMs) {
    const core = this._core;
    const every = nextMs == null ? core.advice.pollEvery : Math.max(asked(nextMs), POLL_S_MIN);
    const pause = jittered(core.random, every);
    this.schedule(Math.max(core.now, this._roundSent + pause));
  }

  /** Discard an answer that may belong to another history, and poll again. */
  _historyMismatch() {
    const core = this._core;
    core.count("history_mismatches");
    this._rest = [];
    this.schedule(core.spread(core.advice.base));
  }

  /**
   * @param {string} url
   * @param {number} retry
   */
  _failed(url, retry) {
    const core = this._core;
    this._holds = null;
    this._rest = [];
    this.pollAt = this.rotation.failed(url, core.now, core.advice, retry, core.advice.pollSpread);
    core.pathFailed(this.rotation);
  }
}
