/**
 * Messages that arrive on the connection: which triggers they fire, and what they add to the client's knowledge.
 *
 * Every message that brings knowledge goes through the path rule first (P-REW-7): a connection that may be in another
 * history than the client is left.
 */

import { Advice, asked } from "./backoff.js";
import { causeOf } from "./core.js";
import { SoftstateError, errorOf } from "./errors.js";
import { sameLineage } from "./question.js";

/** Errors of a subscribe that time may mend (P-CLI-8). */
const LATER = ["unavailable", "overloaded", "behind"];
/** Errors of a subscribe behind hello that say nothing of its names: they are asked for again (P-CLI-16). */
const TURNED_DOWN = ["invalid", "too_large"];
/** Errors after which only other credentials help. */
const FORBIDDEN = ["unauthenticated", "denied"];
/** Reasons of a `bye` after which the session's token is worth nothing (P-CLI-7). */
const DROPS_SESSION = ["rewound", "replaced"];

/**
 * @typedef {import("./connection.js").Connection} Connection
 * @typedef {import("./connection.js").InFlight} InFlight
 * @typedef {import("./core.js").Cause} Cause
 */

export class PushMessages {
  /**
   * @param {import("./core.js").Core} core
   * @param {import("./push_path.js").PushPath} push
   */
  constructor(core, push) {
    this._core = core;
    this._push = push;
  }

  /**
   * Take a message; before the welcome, only few mean anything.
   * @param {Connection} connection
   * @param {any} message
   */
  read(connection, message) {
    connection.beats.heard(this._core.now);
    if (connection.stage === "greeting") this._beforeWelcome(connection, message);
    else if (connection.open) this._read(connection, message);
  }

  /**
   * @param {Connection} connection
   * @param {any} message
   */
  _read(connection, message) {
    const core = this._core;
    switch (message.op) {
      case "notify":
        return this._notify(connection, message);
      case "published":
        return core.act(...core.queue.published(message)); // it applies no value (P-KNOW-10)
      case "position":
        return void this._inHistory(connection, message.position);
      case "beat":
        return this._beat(connection, message);
      case "subscribed":
      case "polled":
        return this._answer(connection, message);
      case "renewed":
        return this._renewed(connection, message);
      case "denied":
        return this._namesLost(connection, message);
      case "authenticated":
        return this._authenticated(connection, message);
      case "revoked":
        return this._revoked(connection, message);
      case "error":
        return this._error(connection, message);
      case "bye":
        return core.fire("BYE", this._byeCause(message));
    }
  }

  // Before and at the welcome

  /**
   * @param {Connection} connection
   * @param {any} message
   */
  _beforeWelcome(connection, message) {
    const core = this._core;
    if (message.op === "welcome") {
      this._welcome(connection, message);
    } else if (message.op === "error") {
      if (message.code === "rewound" && message.position) {
        this._rewound(connection, message.position);
      } else if (message.code === "unauthenticated") {
        if (this._unauthenticated(connection, message)) core.fire("REFUSED"); // it comes again, with the other token
      } else {
        core.fire(FORBIDDEN.includes(message.code) ? "FORBIDDEN" : "REFUSED", causeOf(message));
      }
    } else if (message.op === "bye") {
      const { retry = 0, spread = 0 } = this._byeCause(message);
      core.fire("REFUSED", { retry: retry + core.random.uniform(0, spread) });
    }
  }

  /**
   * @param {Connection} connection
   * @param {any} message
   */
  _welcome(connection, message) {
    const core = this._core;
    const push = this._push;
    const { knowledge } = core;
    const { limits, position } = message;
    connection.latest = position;
    if (!knowledge.usable(position, connection.base)) return this._historyMismatch();
    core.advice = Advice.of(message.poll, message.recover);
    core.limit(limits);
    core.queue.keySeconds = limits.key_ms / 1000;
    core.queue.numbersMax = Math.max(limits.inflight, 1); // with 0, every publish would wait without end
    core.failures = 0;
    core.answeredUrl = connection.url;
    core.count("welcomes");
    connection.welcome(message, core.now);
    core.credentials.told(connection.presented, message.credentials_ms, connection.helloSent);
    core.timeout = connection.timeout;
    push.early.welcomed(connection.url, limits);
    push.session = { token: message.session, leaseUntil: connection.leaseUntil, agreed: null };
    core.deny([...knowledge.subscriptions.keys()].slice(limits.subscriptions));
    if (!connection.requests.size) knowledge.beginLease(); // else it began with hello
    push.scheduleRenewal(connection);
    if (message.reset === true) {
      connection.voidRequests();
      core.fire("WELCOME_RESET", { position });
    } else {
      this._move(connection, position);
      this._welcomeInHistory(connection, message.resumed);
    }
    if (!knowledge.subscriptions.size) push.checkAnswered(connection.helloSerial);
    push.presentToken(); // if another came meanwhile
  }

  /**
   * @param {Connection} connection
   * @param {boolean} resumed
   */
  _welcomeInHistory(connection, resumed) {
    const core = this._core;
    const { knowledge } = core;
    core.count("resumed", +resumed);
    // The digest says that the set is the same again, not that it was all the time: a name that left and came back has
    // lost its values, and the replay begins too late for them.
    const same = knowledge.digest === connection.helloDigest && knowledge.unchangedSince(connection.helloSerial);
    if (resumed && same) {
      knowledge.resume(connection.helloSerial);
      this._push.agree(connection.helloSerial);
      core.fire("WELCOME_RESUMED");
    } else {
      core.fire("WELCOME_NEW");
    }
  }

  // Pushes

  /**
   * @param {Connection} connection
   * @param {any} message
   */
  _notify(connection, message) {
    connection.notifyCount += 1; // which moves no certificate (P-KNOW-6)
    const core = this._core;
    const { knowledge } = core;
    const { position } = knowledge;
    const { topic, version } = message;
    if (!position || !knowledge.usable(connection.latest, connection.base)) return this._historyMismatch();
    if (version > position.revision) this._move(connection, { ...position, revision: version });
    if (message.unknown) {
      core.count("repairs_unknown");
      const names = knowledge.doubt(topic);
      if (names.length) core.fire("UNKNOWN", { names, version });
      return;
    }
    const change = { topic, version, value: message.value ?? null, deleted: message.deleted };
    if (knowledge.apply(change)) core.deliver([change]);
  }

  /**
   * @param {Connection} connection
   * @param {any} message
   */
  _beat(connection, message) {
    const core = this._core;
    const { knowledge } = core;
    core.count("beats");
    connection.beats.beaten(message.next_ms, core.random.uniform(0, 1));
    // Its end is looked at here, too: after a suspend, what was received may come ahead of timers (P-BEAT-5).
    const leased = connection.stage === "leased" && core.now < connection.leaseUntil;
    if (leased && message.sent !== connection.notifyCount) return this._pushesLost(connection, message.sent);
    const { position } = message;
    if (!leased || !sameLineage(position, knowledge.position)) return;
    connection.latest = position;
    this._move(connection, position);
    const asof = connection.beats.asof(message.clock_ms ?? 0, core.now);
    if (asof !== null) knowledge.beaten(position.revision, asof);
  }

  /**
   * Drop names that may not be read any more: renewals on their way name them (P-AUTH-5).
   * @param {Connection} connection
   * @param {any} message
   */
  _namesLost(connection, message) {
    this._core.deny(message.names, message.narrow);
    for (const renewal of connection.renewals.values()) renewal.setChanged = true;
  }

  /**
   * @param {Connection} connection
   * @param {any} message
   */
  _authenticated(connection, message) {
    const { presenting } = connection;
    if (!presenting || message.id !== presenting.id) return;
    connection.toldCredentials(message.credentials_ms, presenting.sent);
    this._push.authenticated(connection);
    this._core.credentials.told(connection.presented, message.credentials_ms, presenting.sent);
    this._push.presentToken();
  }

  /**
   * Take note that the token of this connection was refused; tell whether there is another one already.
   * @param {Connection} connection
   * @param {any} message
   * @returns {boolean}
   */
  _unauthenticated(connection, message) {
    return this._core.unauthenticated(connection.presented, errorOf(message), connection.url);
  }

  /**
   * Fetch another token than the one that was presented in place: the one before is good as long as it was.
   * @param {Connection} connection
   * @param {any} message
   */
  _authRefused(connection, message) {
    const core = this._core;
    const { token } = /** @type {{token: string}} */ (connection.presenting);
    connection.presenting = null;
    const error = errorOf(message);
    if (error.code !== "unauthenticated") return core.credentials.postpone(error);
    if (!core.tokenRefused(token, error, connection.url)) return core.fire("TOKEN_FINAL", { error });
    if (core.credentials.isPresent(token) && !connection.awaitsCredentials) {
      core.credentials.cell.token = connection.presented;
    }
    core.credentials.fetch();
  }

  /**
   * @param {Connection} connection
   * @param {any} message
   */
  _revoked(connection, message) {
    const core = this._core;
    if (message.reason !== "denied") {
      core.fire("REVOKED", { retry: asked(message.retry_ms), spread: asked(message.spread_ms) });
      return;
    }
    const text = "the node revoked the lease: these credentials do not allow it any more";
    if (core.credentials.provider) {
      const error = new SoftstateError("unauthenticated", text, { why: "revoked" });
      core.unauthenticated(connection.presented, error, connection.url);
    } else {
      core.fire("FORBIDDEN", { error: new SoftstateError("denied", text) });
    }
  }

  // Answers

  /**
   * @param {Connection} connection
   * @param {any} message
   */
  _answer(connection, message) {
    const core = this._core;
    const request = connection.requests.get(message.id);
    if (!request || !this._inHistory(connection, message.position)) return;
    const { question } = request;
    connection.page(core.now, question.sent);
    core.takePage(question, message);
    if (message.more) {
      if (question.endless) {
        const text = `${connection.url} announces further pages without an end`;
        core.lastError = new SoftstateError("unavailable", text);
        core.count("misses");
        core.fire("STUCK");
      }
      return;
    }
    connection.requests.delete(message.id);
    const denied = core.deny(message.denied, message.narrow);
    if (denied.length) {
      if (request.joins) connection.expectMismatch(request);
      else this._push.unsubscribe(denied);
    }
    const { revision } = message.position;
    core.deliver(core.knowledge.finish(question, revision, message.lag_ms / 1000, message.compacted));
    if (!request.joins) return;
    connection.extend(question.sent);
    if (message.op === "subscribed") connection.beats.answered(question.sent, core.now, message.clock_ms);
    this._push.checkAnswered(question.serial);
  }

  /**
   * @param {Connection} connection
   * @param {any} message
   */
  _renewed(connection, message) {
    const renewal = connection.renewals.get(message.id);
    if (!renewal) return;
    connection.renewals.delete(message.id);
    if (!this._inHistory(connection, message.position)) return;
    const core = this._core;
    core.advice = Advice.of(message.poll, message.recover);
    core.credentials.told(connection.presented, message.credentials_ms, renewal.sent);
    connection.agreeOn(message, renewal.sent, core.now);
    connection.extend(renewal.sent);
    if (connection.stage !== "leased") return; // names have left the lease, and are about to be subscribed again
    if (!message.match && renewal.setChanged) {
      this._push.renew();
    } else if (!message.match) {
      core.count("repairs_mismatch"); // P-REN-8
      core.fire("MISMATCH");
    } else if (message.sent !== connection.notifyCount) {
      this._pushesLost(connection, message.sent);
    } else {
      this._confirmed(renewal, message);
    }
  }

  /**
   * Take note that other pushes came than were sent (P-REN-9).
   * @param {Connection} connection
   * @param {number} sent
   */
  _pushesLost(connection, sent) {
    this._core.count("repairs_sent_unequal");
    connection.notifyCount = sent;
    this._core.fire("MISMATCH");
  }

  /**
   * @param {import("./connection.js").Renewal} renewal
   * @param {any} message
   */
  _confirmed(renewal, message) {
    const core = this._core;
    this._push.agree(renewal.serial);
    if (message.store === "down") return core.fire("RENEWED_DOWN");
    core.knowledge.renewed(renewal.serial, renewal.sent, message.position.revision, message.lag_ms / 1000);
    if (core.knowledge.unanswered(renewal.serial)) {
      // Requests are answered in order, so the answer to a subscribe of before is lost: nothing else would make
      // renewals certify its names.
      core.count("repairs_unanswered");
      core.fire("MISMATCH");
    } else {
      core.fire("RENEWED_MATCH");
    }
  }

  // Errors and farewells

  /**
   * @param {Connection} connection
   * @param {any} message
   */
  _error(connection, message) {
    const core = this._core;
    const { id, code } = message;
    const request = connection.requests.get(id);
    if (connection.presenting && id === connection.presenting.id) {
      this._authRefused(connection, message);
    } else if (code === "unauthenticated" && core.credentials.provider) {
      this._refusedAgain(connection, message);
    } else if (typeof id === "number") {
      core.act(...core.queue.refused(id, errorOf(message), core.now, core.advice));
    } else if (connection.voided.has(id)) {
      return;
    } else if (code === "rewound") {
      if (message.position) this._rewound(connection, message.position);
    } else if (FORBIDDEN.includes(code)) {
      core.fire("FORBIDDEN", causeOf(message));
    } else if (request) {
      connection.requests.delete(id);
      this._requestFailed(connection, request, message);
    } else if (connection.renewals.delete(id)) {
      this._renewalFailed(connection, message);
    }
  }

  /**
   * Take note that a request was refused for its credentials: it is made again with others.
   * @param {Connection} connection
   * @param {any} message
   */
  _refusedAgain(connection, message) {
    if (typeof message.id === "number") this._core.queue.putBack(message.id, errorOf(message));
    if (!connection.awaitsCredentials && this._unauthenticated(connection, message)) {
      // `auth` is on its way.
      this._core.fire("REVOKED", { retry: Infinity });
      this._push.awaitCredentials();
    }
  }

  /**
   * @param {Connection} connection
   * @param {InFlight} request
   * @param {any} message
   */
  _requestFailed(connection, request, message) {
    const core = this._core;
    const { question } = request;
    const { code } = message;
    const held = () => [...question.since.keys()].filter((name) => core.knowledge.heldBefore(name, question.serial));
    if (code === "compacted") core.knowledge.relist(question.since.keys());
    const turnedDown = request.early && TURNED_DOWN.includes(code);
    if (turnedDown || (request.joins && ![...LATER, "compacted", "no_lease"].includes(code))) {
      // Sent early, its limits were not known, or were others: now they are. Else waiting does not mend it, and the
      // message names no culprit: the names of this request are reported.
      connection.expectMismatch(request);
      if (turnedDown) this._push.subscribe(held());
      else core.deny(held());
      this._push.checkAnswered(question.serial);
      return;
    }
    const retry = Math.max(asked(message.retry_ms), core.advice.pause(core.random, connection.tries));
    connection.tries += 1;
    connection.retry(core.now + retry);
    core.fire("RETRY_LATER");
  }

  /**
   * @param {Connection} connection
   * @param {any} message
   */
  _renewalFailed(connection, message) {
    if (connection.stage !== "leased") return;
    if (message.code !== "no_lease") return this._core.fire("RENEWED_DOWN");
    this._core.count("repairs_no_lease");
    this._core.fire("NO_LEASE");
  }

  /**
   * @param {Connection} connection
   * @param {import("./errors.js").Position} position
   */
  _rewound(connection, position) {
    if (this._core.knowledge.usable(position, connection.base)) this._core.fire("REWOUND", { position });
    else this._historyMismatch();
  }

  /**
   * @param {any} message
   * @returns {Cause}
   */
  _byeCause(message) {
    if (DROPS_SESSION.includes(message.reason)) this._push.session = null;
    return { retry: asked(message.retry_ms), spread: asked(message.spread_ms) };
  }

  // The path rule

  /**
   * Take note of a position that the connection names; leave it if it may be in another history.
   * @param {Connection} connection
   * @param {import("./errors.js").Position} position
   * @returns {boolean}
   */
  _inHistory(connection, position) {
    connection.latest = position;
    if (!this._core.knowledge.usable(position, connection.base)) {
      this._historyMismatch();
      return false;
    }
    this._move(connection, position);
    return true;
  }

  /**
   * @param {Connection} connection
   * @param {import("./errors.js").Position} position
   */
  _move(connection, position) {
    if (this._core.knowledge.move(position)) connection.base = position;
  }

  _historyMismatch() {
    this._core.count("history_mismatches");
    this._core.fire("HISTORY_MISMATCH");
  }
}
