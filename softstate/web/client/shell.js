/** The shell around the machine: it carries out the machine's actions and reports events, nothing else. */

import { SoftstateError, errorOf, isKnownCode } from "../machine/errors.js";
import { Random } from "../machine/backoff.js";
import { Machine } from "../machine/machine.js";
import { fill } from "../machine/messages.js";
import { Clock } from "./clock.js";
import { parse, stringify } from "./codec.js";

const PROTOCOL = "softstate.v1.json";
/** Bytes that may wait to be written to one connection. A node that takes none for so long is given up. */
const WAITING_BYTES_MAX = 8 * 1024 * 1024;
/** How often the clocks are compared. */
const LOOK_MS = 1000;
/** A machine that is asked so much later than it wanted was held up: its page was frozen, or the host slept. */
const LATE_S = 3;
/** How long to ask over HTTP why there is no WebSocket: a browser does not tell. */
const WHY_MS = 2000;
/** Longest Retry-After that is believed. */
const RETRY_AFTER_S_MAX = 3600;
/** @type {Record<string, number>} the level of the protocol that a field came with (P-WIRE-10) */
const CAME_WITH = { wait_ms: 2, age_ms: 3, mode: 3 };
/** Errors of Node.js that say that no connection came to be. A browser never says so. */
const UNSENT = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"];

/** @param {string} url of a node, for HTTP */
const http = (url) => url.replace(/^ws/, "http");

/** 128 random bits, for the id of a publisher. */
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(16).padStart(8, "0")).join("");
}

/** @param {any} error what fetch, or a socket, failed with */
const reasonOf = (error) => String(error?.cause?.message || error?.message || error);

/**
 * @param {string} url
 * @param {any} error what came of asking it
 */
function noAnswer(url, error) {
  const odd = error instanceof SyntaxError || error instanceof SoftstateError || error instanceof RangeError;
  if (odd) return `${url} answered what no node writes: a proxy or a login page may have`;
  return `${url} cannot be reached: ${reasonOf(error)}`;
}

export class Shell {
  /**
   * @param {Partial<typeof import("../machine/core.js").OPTIONS>} options
   * @param {(action: import("../machine/core.js").Action) => void} perform takes actions meant for the application
   * @param {(event: string) => void} advanced is told after each event, once its actions were performed
   * @param {{WebSocket?: any, fetch?: typeof fetch, clock?: Clock}} [means]
   */
  constructor(options, perform, advanced, means = {}) {
    this._cell = { token: options.token ?? null };
    this._WebSocket = means.WebSocket ?? globalThis.WebSocket;
    this._fetch = means.fetch ?? globalThis.fetch.bind(globalThis);
    this.clock = means.clock ?? new Clock();
    const push = options.push !== false && !!this._WebSocket;
    this.machine = new Machine({ ...options, push }, new Random(Math.random, randomId), this._cell);
    this._perform = perform;
    this._advanced = advanced;
    /** @type {Map<number, {socket: any, url: string, opened: boolean}>} */
    this._connections = new Map();
    /** @type {Map<number, AbortController>} */
    this._requests = new Map();
    this._reads = 0; // numbered downwards: the machine numbers its requests upwards
    /** @type {Map<string, number>} the level of the protocol that each URL told last (P-WIRE-10) */
    this._levels = new Map();
    /** Why the last attempt of anything failed, for people. */
    this.because = "";
    /** @type {any} */
    this._timer = null;
    this._closed = false;
    this._provider = options.provider === true;
    this.urls = options.urls ?? [];
    /** @type {(() => void)[]} those that wait for the machine to take another event */
    this._waiting = [];
  }

  open() {
    this.handle({ event: "opened" });
  }

  /** Say goodbye and end. */
  close() {
    if (this._closed) return;
    this.handle({ event: "closed" });
    this._closed = true;
    clearTimeout(this._timer);
    this._wake();
    for (const controller of this._requests.values()) controller.abort();
  }

  /** @param {import("../machine/core.js").MachineEvent} event */
  handle(event) {
    if (this._closed) return;
    const now = this.clock.now();
    const heldUp = now - this.machine.deadline() > LATE_S;
    if ((this.clock.jumped() || heldUp) && event.event !== "jumped") this._take({ event: "jumped" }, now);
    this._take(event, now);
    this._wake();
    clearTimeout(this._timer);
    const { mode } = this.machine;
    if (mode === "closed" || mode === "stopped") return;
    const wait = Math.max((this.machine.deadline() - this.clock.now()) * 1000, 1);
    this._timer = setTimeout(() => this._tick(), Math.min(wait, LOOK_MS));
  }

  /** Try now what waits for its time: the host has a network again. */
  hurry() {
    this.machine.hurry();
    this.handle({ event: "ticked" });
  }

  _tick() {
    this.handle({ event: "ticked" });
  }

  _wake() {
    for (const resume of this._waiting.splice(0)) resume();
  }

  /**
   * @param {import("../machine/core.js").MachineEvent} event
   * @param {number} now
   */
  _take(event, now) {
    for (const action of this.machine.handle(event, now)) this._execute(action);
    this._advanced(event.event === "arrived" ? event.message.op : event.event);
  }

  /** @param {import("../machine/core.js").Action} action */
  _execute(action) {
    switch (action.do) {
      case "send":
        return this._send(action.conn, action.message);
      case "connect":
        return this._connect(action.conn, action.url);
      case "disconnect":
        this._connections.get(action.conn)?.socket.close(1000);
        this._connections.delete(action.conn);
        return;
      case "send_poll": {
        const { op: _, ...asked } = this._fit(action.url, action.message);
        return this._request(action, "/v1/poll", asked, (body) => ({
          event: "poll_answered",
          request: action.request,
          message: fill({ ...body, op: "polled" }),
        }));
      }
      case "send_publish":
        return this._request(action, "/v1/publish", action.batch, ({ results }) => ({
          event: "publish_answered",
          request: action.request,
          results,
        }));
      case "abandon":
        this._requests.get(action.request)?.abort();
        this._requests.delete(action.request);
        return;
      default:
        this._perform(action);
    }
  }

  // Connections

  /**
   * @param {number} conn
   * @param {string} url
   */
  _connect(conn, url) {
    const socket = new this._WebSocket(`${url}/v1/ws`, [PROTOCOL]);
    socket.binaryType = "arraybuffer";
    const connection = { socket, url, opened: false, failed: false };
    this._connections.set(conn, connection);
    const present = () => this._connections.get(conn) === connection;
    socket.onopen = () => {
      if (!present()) return socket.close(1000);
      connection.opened = true;
      this.handle({ event: "connected", conn });
    };
    socket.onmessage = (/** @type {any} */ { data }) => {
      if (!present()) return;
      try {
        const message = fill(parse(typeof data === "string" ? data : new TextDecoder().decode(data)));
        if (message?.op === "welcome") this._levels.set(url, message.level ?? 0);
        if (message) this.handle({ event: "arrived", conn, message });
      } catch (error) {
        if (!(error instanceof SoftstateError || error instanceof SyntaxError)) throw error;
        this._lose(conn, null, `the node sent a message that cannot be understood: ${error.message}`);
      }
    };
    socket.onclose = (/** @type {any} */ { code, reason }) => {
      if (!present()) return;
      if (connection.opened) this._lose(conn, code === 1005 || code === 1006 ? null : code, reason);
      else fail();
    };
    const fail = () => {
      if (!connection.failed) void this._failed(conn, url);
      connection.failed = true;
    };
    // Node.js 20 and 22 close no socket that did not open (undici before 7); elsewhere onclose follows.
    socket.onerror = () => present() && !connection.opened && fail();
  }

  /**
   * @param {number} conn
   * @param {any} message
   */
  _send(conn, message) {
    const connection = this._connections.get(conn);
    if (!connection) return;
    const { socket, url } = connection;
    socket.send(stringify(this._fit(url, message)));
    if (socket.bufferedAmount > WAITING_BYTES_MAX) {
      setTimeout(() => this._lose(conn, null, `${WAITING_BYTES_MAX} bytes wait to be written`));
    }
  }

  /**
   * @param {number} conn
   * @param {number | null} code
   * @param {string} reason
   */
  _lose(conn, code, reason) {
    const connection = this._connections.get(conn);
    if (!connection) return;
    this._connections.delete(conn);
    connection.socket.close();
    const how = (code === null ? "" : ` with code ${code}`) + (reason && `: ${reason}`);
    this.because = `the connection ended${how}`;
    this.handle({ event: "lost", conn, code, reason });
  }

  /**
   * Report that no WebSocket came to be, with what a plain request to its route is answered: 426 by a node.
   * @param {number} conn
   * @param {string} url
   */
  async _failed(conn, url) {
    /** @type {import("../machine/core.js").MachineEvent} */
    let event = { event: "connect_failed", conn, reason: "no WebSocket", status: null };
    try {
      const reply = await this._ask(`${http(url)}/v1/ws`, { signal: AbortSignal.timeout(WHY_MS) });
      const { error, retry_ms } = await failureOf(reply);
      const blocked = reply.status === 426 || reply.ok;
      const reason = blocked ? "something between here and the node does not pass WebSocket" : error?.message;
      const status = [401, 403, 404].includes(reply.status) ? reply.status : null;
      event = { ...event, reason: reason ?? `HTTP status ${reply.status}`, status, retry_ms, error };
    } catch (error) {
      event.reason = reasonOf(error);
      event.unsent = isUnsent(error);
    }
    if (!this._connections.delete(conn)) return;
    this.because = `${url} takes no WebSocket: ${event.reason}`;
    this.handle(event);
  }

  // HTTP

  /**
   * Leave out what the node at a URL may not know: over HTTP it would refuse it.
   * @param {string} url
   * @param {any} message
   */
  _fit(url, message) {
    const level = this._levels.get(url) ?? 0;
    return Object.fromEntries(Object.entries(message).filter(([field]) => (CAME_WITH[field] ?? 0) <= level));
  }

  /**
   * @param {string} url
   * @param {any} init
   */
  _ask(url, { headers = {}, ...init }) {
    const { token } = this._cell;
    const authorization = token === null ? {} : { Authorization: `Bearer ${token}` };
    const accepting = { Accept: "application/json", ...authorization, ...headers };
    return this._fetch(url, { cache: "no-store", ...init, headers: accepting });
  }

  /**
   * @param {import("../machine/core.js").Action} action
   * @param {string} path
   * @param {any} body
   * @param {(body: any) => import("../machine/core.js").MachineEvent} answer
   */
  _request({ request, url }, path, body, answer) {
    const controller = new AbortController();
    this._requests.set(request, controller);
    const init = {
      method: "POST",
      body: stringify(body),
      headers: { "Content-Type": "application/json" },
      signal: controller.signal,
    };
    void this._answerOf(url, path, init, request, answer).then((event) => {
      if (this._requests.get(request) !== controller) return;
      this._requests.delete(request);
      if (event.reason) this.because = event.reason;
      this.handle(event);
    });
  }

  /**
   * @param {string} node
   * @param {string} path
   * @param {any} init
   * @param {number} request
   * @param {(body: any) => import("../machine/core.js").MachineEvent} answer
   * @returns {Promise<import("../machine/core.js").MachineEvent>}
   */
  async _answerOf(node, path, init, request, answer) {
    const failed = { event: "request_failed", request };
    const url = http(node) + path;
    try {
      const reply = await this._ask(url, init);
      this._levels.set(node, Number(reply.headers.get("Softstate-Level")) || 0);
      if (reply.ok) return answer(parse(await reply.text()));
      const { error, reason } = await failureOf(reply);
      return { ...failed, reason, error };
    } catch (error) {
      return { ...failed, reason: noAnswer(url, error), unsent: isUnsent(error) };
    }
  }

  // Reads of one topic

  /** @returns {string | null} what is presented now */
  get token() {
    return this._cell.token;
  }

  /**
   * Wait for another token than one that was refused, or for the first; tell whether it came.
   * @param {string | null} refused
   * @param {number} ends when to give up, by `clock`
   * @param {SoftstateError} [error] what a node refused it with
   * @returns {Promise<boolean>}
   */
  async anotherToken(refused, ends, error) {
    if (!this._provider) return false;
    if (error) this.handle({ event: "token_refused", token: refused, error });
    const waits = () => this.token === refused && !this._closed && this.machine.mode !== "stopped" && this.clock.now() < ends;
    while (waits()) await new Promise((resolve) => this._waiting.push(() => resolve(undefined)));
    return this.token !== refused;
  }

  /**
   * Read one topic from one node; undefined if it knows nothing of it. Rejects with what the node says, and with
   * `unavailable`, whose `why` is `silent`, if it says nothing.
   * @param {string} node
   * @param {string} path
   * @param {number} seconds how long it may take
   * @returns {Promise<{version: number, value: any, deleted: boolean} | undefined>}
   */
  async get(node, path, seconds) {
    const url = http(node) + path;
    const silent = (/** @type {string} */ why) => new SoftstateError("unavailable", why, { why: "silent" });
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(new Error(`no answer within ${seconds} s`)), seconds * 1000);
    const request = --this._reads;
    this._requests.set(request, controller);
    try {
      const reply = await this._ask(url, { signal: controller.signal });
      if (!reply.ok) {
        const { error, reason, version } = await failureOf(reply);
        if (error?.code !== "not_found") throw error ?? silent(reason);
        return version === undefined ? undefined : { version, value: null, deleted: true };
      }
      const version = versionOf(reply.headers.get("ETag"));
      if (version === null) throw silent(`${url} answered without an ETag`);
      return { version, value: parse(await reply.text()), deleted: false };
    } catch (error) {
      throw error instanceof SoftstateError ? error : silent(noAnswer(url, error));
    } finally {
      clearTimeout(timer);
      this._requests.delete(request);
    }
  }
}

/**
 * Return the version that an ETag names, `"epoch.lineage.version+json"`; null if it is no such tag.
 * @param {string | null} tag
 */
function versionOf(tag) {
  const found = /\.(\d+)(\+\w+)?"$/.exec(tag ?? "");
  return found && Number(found[1]);
}

/** @param {any} error */
function isUnsent(error) {
  return UNSENT.includes(error?.cause?.code);
}

/**
 * Return the error that a response stands for: null if no node wrote it, and it does not ask to wait.
 * @param {Response} reply
 * @returns {Promise<{error: SoftstateError | null, reason: string, retry_ms: number | null, version?: number}>}
 */
async function failureOf(reply) {
  const { status } = reply;
  const after = reply.headers.get("Retry-After") ?? "";
  const waits = /^\d{1,9}$/.test(after) ? Math.min(+after, RETRY_AFTER_S_MAX) * 1000 : null;
  let body = null;
  try {
    body = parse(await reply.text());
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  if (body && isKnownCode(body.code)) {
    const error = errorOf({ ...body, retry_ms: body.retry_ms ?? waits });
    return { error, reason: error.message, retry_ms: error.retryMs, version: body.version };
  }
  const reason = `HTTP status ${status} without an error that softstate knows: a proxy may have answered`;
  const code = { 401: "denied", 403: "denied", 429: "overloaded", 503: "unavailable" }[status];
  const details = { retryMs: waits, why: code === "denied" ? "foreign" : null };
  return { error: code ? new SoftstateError(code, reason, details) : null, reason, retry_ms: waits };
}
