/** The answers of nodes to `GET /v1/status`: how old they are, and what has changed between two of them. */

import { duration, make, number, size, terms } from "./dom.js";
import { bar, curve } from "./plot.js";

export const EVERY_MS = 2000;
const TIMEOUT_MS = 5000;
/** An answer of a node is stale from this age on, in seconds. */
export const STALE_S = 6;
/** A node that is not heard of for so long is left out, if another one answers at its URL. */
const GONE_S = 60;
/** Seconds that plots reach back. */
const PLOT_S = 120;

/**
 * @typedef {object} Known what is known of one node
 * @property {string} url
 * @property {any} status its last answer
 * @property {number} askedAt when the request for it was sent, by `now`
 * @property {Record<string, import("./plot.js").Sample[]>} samples
 */

/** Seconds that go on while the host sleeps, as far as either clock tells. */
const began = { steady: performance.now(), wall: Date.now() };
export const now = () => Math.max(performance.now() - began.steady, Date.now() - began.wall) / 1000;

export class Nodes {
  /**
   * @param {URL[]} urls of nodes
   * @param {() => void} changed is called after each answer, and each that did not come
   * @param {(why: string) => void} refused is called when a node wants credentials, or others
   */
  constructor(urls, changed, refused) {
    this._urls = urls;
    this._changed = changed;
    this._refused = refused;
    /** @type {Map<string, Known>} by the node's id */
    this.known = new Map();
    /** @type {Map<string, string>} why the last request to a URL failed, empty if it did not */
    this.problems = new Map();
    /** @type {string | null} */
    this.token = null;
    /** Whether a node wants a token: none is asked before there is one. */
    this.held = false;
  }

  /** Ask all nodes, again and again. */
  begin() {
    for (const url of this._urls) void this._ask(url);
  }

  /** @param {URL} url */
  async _ask(url) {
    for (;;) {
      const askedAt = now();
      const { token } = this;
      try {
        const headers = { Accept: "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
        const signal = AbortSignal.timeout(TIMEOUT_MS);
        const reply = await fetch(new URL("v1/status", url), { headers, signal, cache: "no-store" });
        const body = await reply.json();
        this.problems.set(url.href, reply.ok ? "" : body.message);
        if (reply.ok) this._take(url.href, body, askedAt);
        else if ((reply.status === 401 || reply.status === 403) && token === this.token) this._hold(body.message);
      } catch {
        this.problems.set(url.href, "no answer");
      }
      this._changed();
      do await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
      while (this.held);
    }
  }

  /** @param {string} why */
  _hold(why) {
    if (!this.held) this._refused(why);
    this.held = true;
  }

  /** Each node that has answered, in the order of their URLs. */
  all() {
    const place = (/** @type {Known} */ { url }) => this._urls.findIndex(({ href }) => href === url);
    return [...this.known.values()].sort((one, other) => place(one) - place(other));
  }

  /**
   * @param {string} url
   * @param {any} status
   * @param {number} askedAt
   */
  _take(url, status, askedAt) {
    const before = this.known.get(status.node);
    const samples = before?.samples ?? { deliveries: [], publishes: [], age: [] };
    const passed = before ? status.uptime_s - before.status.uptime_s : 0;
    const rate = (/** @type {string} */ name) => (before && passed > 0 ? (status[name] - before.status[name]) / passed : null);
    const taken = { deliveries: rate("deliveries"), publishes: rate("publishes"), age: status.clients?.age_p99_s ?? null };
    for (const [name, value] of Object.entries(taken)) {
      if (value !== null) samples[name].push({ at: askedAt, value });
      samples[name] = samples[name].filter(({ at }) => at > askedAt - PLOT_S);
    }
    this.known.set(status.node, { url, status, askedAt, samples });
    for (const [id, each] of this.known) {
      if (each.url === url && now() - each.askedAt > GONE_S) this.known.delete(id);
    }
  }
}

/** @param {Known} known */
export const ageOf = (known) => now() - known.askedAt;

/**
 * @param {Known} known
 * @returns {[state: string, text: string]}
 */
export function stateOf(known) {
  const { status } = known;
  if (ageOf(known) > STALE_S) return ["stale", "no answer"];
  if (status.store_state !== "ok") return ["warn", "store is down"];
  if (status.draining) return ["warn", "shutting down"];
  if (status.congested) return ["warn", "slow clients"];
  return ["ok", "serving"];
}

/**
 * Show one node.
 * @param {Known} known
 * @returns {HTMLElement}
 */
export function card(known) {
  const { status, samples } = known;
  const [state, text] = stateOf(known);
  const told = make("small", { "data-age-of": status.node }, `as of ${duration(ageOf(known))} ago`);
  const repairs = Object.entries(status.repairs).map(([name, count]) => `${name} ${number(count)}`);
  const rows = terms([
    ["sessions", number(status.sessions)],
    ["polling", number(status.polling)],
    ["slow clients", `${number(status.congested)}; ${number(status.pending)} changes wait`],
    ["repairs", repairs.join(", ") || "none"],
    ["memory", `${size(status.memory_bytes)}, ${status.memory.state}`],
    ["up for", duration(status.uptime_s)],
  ]);
  const time = { now: now(), span: PLOT_S, pause: STALE_S };
  const perSecond = (/** @type {number} */ value) => `${value < 9.95 ? value.toFixed(1) : number(value)} /s`;
  const plots = [
    curve("deliveries", samples.deliveries, time, perSecond),
    curve("publishes", samples.publishes, time, perSecond),
  ];
  if (samples.age.length) plots.push(curve("client age p99", samples.age, time, duration));
  const who = make("small", { title: status.node }, `${status.node.slice(0, 8)}, role ${status.role}`);
  const heading = make("h3", {}, `${new URL(known.url).host} `, who);
  const line = make("p", { class: "row" }, make("span", { class: "state", "data-state": state }, text), told);
  const body = make("div", { class: "told" }, make("dl", {}, ...rows), make("div", { class: "plots" }, ...plots));
  return make("article", { class: "card", "data-state": state, "data-node": status.node }, heading, line, body);
}

/**
 * Show a URL at which no node has answered yet.
 * @param {string} url
 * @param {string} problem
 * @returns {HTMLElement}
 */
export function silentCard(url, problem) {
  const state = make("span", { class: "state", "data-state": "warn" }, problem);
  return make("article", { class: "card" }, make("h3", {}, new URL(url).host), make("p", { class: "row" }, state));
}

/**
 * @param {string} mode
 * @param {number} count
 */
const counted = (mode, count) => make("span", {}, make("span", { class: `swatch ${mode}` }), ` ${number(count)}`);

/**
 * Show how old what clients know is, and what they do: as they have told the nodes.
 * @param {Known[]} fresh nodes whose answers are not stale
 * @returns {Node[]}
 */
export function clients(fresh) {
  const told = fresh.map(({ status }) => status.clients).filter((each) => each);
  if (!told.length) {
    const sum = (/** @type {string} */ name) => fresh.reduce((total, { status }) => total + status[name], 0);
    const parts = /** @type {[string, number][]} */ ([["live", sum("attached")], ["polling", sum("polling")], ["offline", sum("detached")]]);
    const words = ["connected, with a lease", "poll", "away, their lease goes on"];
    return [bar(parts), make("dl", {}, ...terms(parts.map(([name, count], i) => [words[i], counted(name, count)])))];
  }
  /** @type {Map<string, number>} */
  const modes = new Map();
  for (const { modes: each } of told) {
    for (const [mode, count] of Object.entries(each)) if (count) modes.set(mode, (modes.get(mode) ?? 0) + count);
  }
  if (!modes.size) return [make("p", {}, "No client has told how old its knowledge is.")];
  const highest = (/** @type {string} */ name) => Math.max(...told.map((each) => each[name] ?? -1));
  const age = (/** @type {string} */ name) => (highest(name) < 0 ? "unknown" : duration(highest(name)));
  const rows = terms([
    ["age, p50", `${age("age_p50_s")} (on the node where it is highest)`],
    ["age, p99", age("age_p99_s")],
    ["age, most", age("age_max_s")],
    ["no answer yet", number(told.reduce((sum, { never }) => sum + never, 0))],
    ...[...modes].map(([mode, count]) => /** @type {[string, Node]} */ ([mode, counted(mode, count)])),
  ]);
  return [bar([...modes]), make("dl", {}, ...rows)];
}

/**
 * Show the store, as one node tells.
 * @param {Known} known
 * @returns {Node[]}
 */
export function store({ status }) {
  const durable = status.store_durable ? "survives a crash of the machine" : "acknowledged publishes may be lost";
  return terms([
    ["store", status.store],
    ["state", status.store_state],
    ["durability", `${status.durability}: ${durable}`],
    ...status.store_warnings.map((/** @type {string} */ text) => ["warning", make("span", { class: "problem" }, text)]),
    ["revision", number(status.revision)],
    ["position", make("code", {}, status.position)],
    ["topics", `${number(status.topics)}, ${number(status.tombstones)} deleted ones kept`],
    ["size", size(status.store_bytes)],
  ]);
}
