/** State that all parts of the client machine share: options, knowledge, advice, the present time, and its actions. */

import { Advice, asked, jittered } from "./backoff.js";
import { errorOf } from "./errors.js";
import { NAMES_MAX, Portions } from "./portions.js";

/**
 * @typedef {import("./errors.js").SoftstateError} SoftstateError
 * @typedef {import("./errors.js").Position} Position
 * @typedef {{do: string, [field: string]: any}} Action
 * @typedef {{event: string, [field: string]: any}} MachineEvent
 * @typedef {{position?: Position | null, retry?: number, spread?: number, error?: SoftstateError | null,
 *   names?: string[], version?: number, barred?: boolean, unsent?: boolean}} Cause the details of a trigger
 * @typedef {"closed" | "connecting" | "syncing" | "live" | "suspect" | "polling" | "offline" | "stopped"} Mode
 */

/**
 * How a client machine works. `urls` are base URLs, at least one. Without `push` it never opens a WebSocket. `token`
 * are its first credentials; with a `provider` others can be had. `ttl_ms` is the longest lease to ask for, `beat_ms`
 * the longest time between two beats, null for no beats. `advice` holds until a node gives its own.
 */
export const OPTIONS = {
  urls: /** @type {string[]} */ ([]),
  push: true,
  name: "",
  token: /** @type {string | null} */ (null),
  provider: false,
  ttl_ms: /** @type {number | null} */ (null),
  beat_ms: /** @type {number | null} */ (1000),
  connect_timeout_s: 5,
  hello_timeout_s: 5,
  poll_timeout_s: 10,
  advice: new Advice(),
  offline_after: 3,
  publishes_waiting_max: 10_000,
  inflight_max: 128,
};

/** A poll goes beside a connection that takes longer than this part of the time waited for an answer. */
const EARLY = 0.25;

/** The age of a client that does not know all that it wants, or whose knowledge is older still (P-REN-13). */
const AGE_MS_NEVER = 604_800_000;
/** Refusals remembered, so that each is reported once. */
const REFUSALS_MAX = 256;
const NO_NAMES = /** @type {Record<string, string[]>} */ ({});

/** `why` of the error for an answer 401 or 403 that no node gave: a proxy did. */
export const FOREIGN = "foreign";

/**
 * Tell whether an error bars its URL, as 404 does, instead of stopping the client (P-CLI-6).
 * @param {SoftstateError | null | undefined} error
 * @returns {boolean}
 */
export function bars(error) {
  return error?.code === "denied" && ["host", "origin", FOREIGN].includes(error.why ?? "");
}

/**
 * @param {any} message an error of a node
 * @returns {Cause}
 */
export function causeOf(message) {
  return { retry: asked(message.retry_ms), error: errorOf(message) };
}

export class Core {
  /**
   * @param {typeof OPTIONS} options
   * @param {import("./backoff.js").Random} random
   * @param {import("./knowledge.js").Knowledge} knowledge
   * @param {import("./publish_queue.js").PublishQueue} queue
   * @param {import("./credentials.js").Credentials} credentials
   * @param {import("./reach.js").Reach} reach change it by `refusedDial` and `reached`
   */
  constructor(options, random, knowledge, queue, credentials, reach) {
    this.options = options;
    this.random = random;
    this.knowledge = knowledge;
    this.queue = queue;
    this.credentials = credentials;
    this.reach = reach;
    this.advice = options.advice;
    /** @type {(trigger: string, cause?: Cause) => void} runs the row that a trigger has in the present state */
    this.fire = () => {};
    /** @type {(rotation: import("./backoff.js").Rotation) => void} takes note of a failure of a path */
    this.pathFailed = () => {};
    /** When the next connection is due; infinity if none is planned. */
    this.connectAt = () => Infinity;
    /** Tells the paths that a URL began to refuse connections, refused a probe, or takes connections again. */
    this.reachChanged = () => {};
    /** @type {Mode} */
    this.mode = "closed";
    this.now = 0;
    /** @type {import("./portions.js").Limits | null} */
    this.limits = null;
    this.portions = new Portions();
    /** How long the last node that spoke says to wait for an answer. */
    this.timeout = Infinity;
    /** @type {Action[]} */
    this.out = [];
    /** @type {Record<string, number>} */
    this.counts = {};
    /** @type {SoftstateError | null} */
    this.stoppedBy = null;
    /** Rounds in a row in which every URL failed, on the path that decides whether the client is offline. */
    this.failures = 0;
    this._number = 0;
    /** @type {string | null} the URL that last answered anything */
    this.answeredUrl = null;
    /** @type {SoftstateError | null} */
    this.lastError = null;
    /** @type {Set<string>} */
    this._refusals = new Set();
    /** @type {Set<string>} prefixes in whose place the application wants names below them, if they are denied */
    this.narrowing = new Set();
    /** @type {string[]} names that have taken such a place, and are still to be asked for */
    this.narrowed = [];
  }

  /** How long to wait for a page of a poll, or a batch of publishes, over HTTP. */
  get pollTimeout() {
    return Math.min(this.options.poll_timeout_s, this.timeout);
  }

  /** How long an answer of a node may take. */
  get answerTime() {
    return Math.min(this.timeout, this.options.hello_timeout_s);
  }

  /** Draw how long a connection may take until a poll goes beside it. */
  patience() {
    return jittered(this.random, EARLY * this.answerTime);
  }

  /** Choose the number of a connection or an HTTP request. */
  number() {
    return ++this._number;
  }

  /** @param {string} name of a counter */
  count(name, by = 1) {
    this.counts[name] = (this.counts[name] ?? 0) + by;
  }

  /** @param {Action[]} actions */
  act(...actions) {
    this.out.push(...actions);
  }

  /** How old what this client knows is, and its mode, as nodes are told (P-REN-13). */
  told() {
    const { knowledge, mode, now } = this;
    if (!knowledge.subscriptions.size) return { mode };
    return { age_ms: Math.min(Math.ceil(knowledge.age(now) * 1000), AGE_MS_NEVER), mode };
  }

  /** @param {import("./known.js").Change[]} changes */
  deliver(changes) {
    if (changes.length) this.act({ do: "deliver", changes });
  }

  /**
   * Apply one page of an answer, and tell the application what is new.
   * @param {import("./question.js").Question} question
   * @param {any} message
   */
  takePage(question, message) {
    const { changes, unreadable } = message;
    const { revision } = message.position;
    this.deliver(this.knowledge.applyPage(question, changes, revision));
    const before = question.unreadable.size;
    if (unreadable.length) {
      const topics = this.knowledge.applyUnreadable(question, unreadable, revision);
      if (topics.length) this.act({ do: "topics_unreadable", topics });
    }
    let newest = 0;
    for (const change of changes) newest = Math.max(newest, change.version);
    question.notePage(this.now, newest, question.unreadable.size > before);
  }

  /**
   * Drop names that a node refuses from the set, and report them. The names below a prefix that is to be narrowed take
   * its place, ahead of that: what is known of them stays.
   * @param {string[]} names
   * @param {Record<string, string[]>} [narrow]
   * @returns {string[]} those that were in it
   */
  deny(names, narrow = NO_NAMES) {
    const held = this.knowledge.subscriptions;
    const below = names
      .filter((name) => held.has(name) && this.narrowing.has(name))
      .flatMap((name) => (Object.hasOwn(narrow, name) ? narrow[name] : []));
    this.narrowed.push(...this.knowledge.add(below));
    this.narrowing = new Set([...this.narrowing, ...below]);
    const denied = this.knowledge.remove(names);
    if (denied.length) this.act({ do: "names_denied", names: denied, narrow });
    return denied;
  }

  /**
   * Report that a node refuses this client, or a request of it, once for each URL and reason.
   * @param {string} url
   * @param {SoftstateError} error
   */
  refused(url, error) {
    this.lastError = error;
    if (this._refusals.size >= REFUSALS_MAX) this._refusals.clear();
    const reason = `${url} ${error.message}`;
    if (this._refusals.has(reason)) return;
    this._refusals.add(reason);
    this.act({ do: "node_refused", url, error });
  }

  /**
   * Report it, if one side did not accept the other's certificate.
   * @param {string} url
   * @param {SoftstateError | null | undefined} error
   */
  mistrusted(url, error) {
    if (error?.why === "certificate") this.refused(url, error);
  }

  /**
   * Take note that no stream to `url` came to be. If that is news, it is dialled again at `planned`, if that is within
   * one spread; else after a wait of its own. `placed`: the time of this dial was drawn from the spread.
   * @param {string} url
   * @param {number} [planned]
   * @param {boolean} [placed]
   */
  refusedDial(url, planned = Infinity, placed = false) {
    const advice = this.advice;
    if (this.now < planned && planned <= this.now + advice.recoverSpread && !this.reach.refuses(url)) {
      this.reach.wait(url, this.now, planned);
    } else {
      const spread = this.options.push ? advice.recoverSpread : advice.pollSpread;
      this.reach.refused(url, this.now, advice, spread, placed);
    }
    this.reachChanged();
  }

  /** @param {string} url one that takes connections, also if this one came to nothing */
  reached(url) {
    if (this.reach.reached(url)) this.reachChanged();
  }

  /**
   * Take note that a node refused `token`; tell whether it is another one already that is presented.
   * @param {string | null} token
   * @param {SoftstateError} error
   * @param {string} url
   * @returns {boolean}
   */
  unauthenticated(token, error, url) {
    const { credentials } = this;
    if (!credentials.provider) {
      this.fire("FORBIDDEN", { error });
    } else if (!credentials.isPresent(token)) {
      return true;
    } else {
      this.fire(this.tokenRefused(token, error, url) ? "CREDENTIALS_REFUSED" : "TOKEN_FINAL", { error });
    }
    return false;
  }

  /**
   * Take note that a node refused a token; tell whether there is hope for another one. Of a token that no node has
   * taken, the application hears.
   * @param {string | null} token
   * @param {SoftstateError} error
   * @param {string} url
   * @returns {boolean}
   */
  tokenRefused(token, error, url) {
    const { fresh } = this.credentials;
    const hope = this.credentials.refused(token, error);
    if (hope && fresh) this.refused(url, error);
    return hope;
  }

  /**
   * Draw a time between now and `span` seconds later.
   * @param {number} span
   * @returns {number}
   */
  spread(span) {
    return this.now + this.random.uniform(0, span);
  }

  /** @param {import("./portions.js").Limits} limits that a node told: everything is cut to them from now on */
  limit(limits) {
    this.limits = limits;
    this.portions = new Portions(limits);
    this.queue.limit(this.portions);
  }

  /**
   * Cut names into requests, in order.
   * @param {Iterable<string>} names
   * @param {number} [most]
   */
  cut(names, most = NAMES_MAX) {
    return this.portions.cut(names, this.knowledge.position, most);
  }
}
