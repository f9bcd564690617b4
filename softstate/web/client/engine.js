/**
 * The part that runs in a worker: one machine for all tabs that are attached, each by a port.
 *
 * A tab is to the engine what a client is to a node. Each has at most one update under way, and what comes meanwhile
 * waits in inboxes that keep one change a topic: so a frozen tab costs no more than what it follows. An update tells the
 * reading of this clock and the ages; the tab knows from an earlier one when it sent what this clock had not reached.
 */

import { SoftstateError } from "../machine/errors.js";
import { isPrefix, reaching } from "../machine/names.js";
import { utf8 } from "../machine/names.js";
import { sizeOf, stringify } from "./codec.js";
import { Inbox } from "./inbox.js";
import { Reader } from "./reader.js";
import { Shell } from "./shell.js";
import { pack, unpack } from "./wrapped.js";

/** Events that go into one update, at most. */
const EVENTS_MAX = 1000;
/** How long a tab has to give a token until another one is asked as well. */
const TOKEN_TRY_MS = 5000;
/** How long to wait for a token in all. */
const TOKEN_MS_MAX = 30_000;
/** A tab that takes nothing, or is away, for so long is forgotten; if it lives, it is told, and attaches again. */
const SILENT_MS_MAX = 600_000;
/** Events that may have moved an age, or failed: tabs are told. */
const TOLD = [
  ...["connect_failed", "request_failed", "lost", "token_failed", "token_refused"],
  ...["beat", "renewed", "subscribed", "polled", "poll_answered", "welcome", "wanted", "unwanted", "jumped"],
];

class Tab {
  /** @param {{postMessage(message: any): void}} port */
  constructor(port) {
    this.port = port;
    /** @type {Map<number, Inbox>} */
    this.inboxes = new Map();
    /** Whether it gives tokens. */
    this.provider = false;
    this.seq = 0;
    /** @type {[seq: number, clock: number]} what it acknowledged last, and when that came, by this clock */
    this.anchor = [0, 0];
    this.outstanding = false;
    /** Whether it is owed an update though nothing is pending: an age has moved. */
    this.owed = true;
    /** Whether its page waits in a back/forward cache: Chromium drops a page there that gets a message. */
    this.away = false;
    this.heard = 0;
  }
}

export class Engine {
  /** @param {ConstructorParameters<typeof Shell>[3]} [means] */
  constructor(means) {
    this._means = means;
    /** @type {Set<Tab>} */
    this._tabs = new Set();
    /** @type {Map<string, Set<Inbox>>} */
    this._byName = new Map();
    /** @type {Map<number, {tab: Tab, ticket: number}>} */
    this._publishes = new Map();
    this._tickets = 0;
    /** @type {Shell | null} */
    this._shell = null;
    /** @type {Reader | null} */
    this._reader = null;
    /** @type {Map<number, {asked: Set<Tab>, timer: any, rejected: string | null, attempt: number, until: number}>} */
    this._tokens = new Map();
  }

  /**
   * Serve a tab.
   * @param {any} port a MessagePort, or what has the same methods
   * @param {string} [lock] the name of a lock that this worker holds, empty if it cannot: the tab hears of its end by it
   */
  attach(port, lock = "") {
    const tab = new Tab(port);
    port.onmessage = (/** @type {any} */ { data }) => this._read(tab, data);
    port.postMessage({ type: "ready", lock });
  }

  /**
   * @param {Tab} tab
   * @param {any} message
   */
  _read(tab, message) {
    if (message.type === "open") return this._open(tab, message);
    const shell = this._shell;
    if (!shell || !this._tabs.has(tab)) return tab.port.postMessage({ type: "gone" });
    tab.heard = Date.now();
    switch (message.type) {
      case "ack":
        tab.outstanding = false;
        tab.anchor = [message.seq, shell.clock.now()];
        return this._flush(tab);
      case "subscribe":
        return this._subscribe(shell, tab, message);
      case "unsubscribe":
        return this._unsubscribe(shell, tab, message.id);
      case "publish":
        return this._publish(shell, tab, message);
      case "get":
        return void this._get(tab, message);
      case "token":
        return this._tokenCame(message);
      case "away":
        tab.away = true;
        return;
      case "jumped":
        tab.away = false;
        return shell.handle({ event: "jumped" });
      case "online":
        return shell.hurry();
      case "close":
        return this._leave(tab);
    }
  }

  /**
   * @param {Tab} tab
   * @param {any} message
   */
  _open(tab, { options, lock, provider }) {
    if (this._shell?.machine.mode === "stopped") this._end(); // it may have other credentials now
    if (!this._shell) {
      const perform = (/** @type {any} */ action) => this._perform(action);
      this._shell = new Shell(options, perform, (event) => this._advanced(event), this._means);
      this._reader = new Reader(this._shell);
    }
    tab.provider = provider;
    tab.anchor = [0, this._shell.clock.now()];
    tab.outstanding = false;
    tab.owed = true;
    tab.away = false;
    tab.heard = Date.now();
    this._tabs.add(tab);
    // The lock is free once the tab is gone, however it went.
    if (lock) navigator.locks?.request(lock, () => this._leave(tab));
    if (this._shell.machine.mode === "closed") this._shell.open();
    this._flush(tab);
  }

  /** @param {Tab} tab one that has gone */
  _leave(tab) {
    if (!this._tabs.delete(tab)) return;
    if (this._shell) for (const id of [...tab.inboxes.keys()]) this._unsubscribe(this._shell, tab, id);
    for (const number of this._tokens.keys()) this._askToken(number);
    if (!this._tabs.size) this._end();
  }

  _end() {
    this._shell?.close();
    this._shell = null;
    this._byName.clear();
    for (const { timer } of this._tokens.values()) clearTimeout(timer);
    this._tokens.clear();
  }

  // Subscriptions

  /**
   * @param {Shell} shell
   * @param {Tab} tab
   * @param {any} message
   */
  _subscribe(shell, tab, { id, names, narrow }) {
    const inbox = new Inbox(names, narrow);
    tab.inboxes.set(id, inbox);
    const fresh = [...inbox.names].filter((name) => !this._byName.has(name));
    for (const name of inbox.names) {
      this._hold(name, inbox);
      for (const change of shell.machine.known(name)) {
        if (change.version > 0 && !change.deleted) inbox.tell({ type: "change", ...change });
      }
    }
    inbox.tell({ type: "unreadable", topics: shell.machine.unreadable([...inbox.names]) });
    if (narrow) this._narrowing(shell);
    if (fresh.length) shell.handle({ event: "wanted", names: fresh });
    tab.owed = true;
    this._flush(tab);
  }

  /**
   * @param {Shell} shell
   * @param {Tab} tab
   * @param {number} id
   */
  _unsubscribe(shell, tab, id) {
    const inbox = tab.inboxes.get(id);
    if (!inbox) return;
    tab.inboxes.delete(id);
    const freed = [];
    for (const name of inbox.names) {
      const holders = this._byName.get(name);
      holders?.delete(inbox);
      if (holders?.size !== 0) continue;
      this._byName.delete(name);
      freed.push(name);
    }
    if (inbox.narrow) this._narrowing(shell);
    if (freed.length) shell.handle({ event: "unwanted", names: freed });
  }

  /** @param {Shell} shell */
  _narrowing(shell) {
    const narrowing = this._inboxes().filter((inbox) => inbox.narrow);
    const names = new Set(narrowing.flatMap((inbox) => [...inbox.names].filter(isPrefix)));
    shell.handle({ event: "narrowing", names: [...names] });
  }

  /**
   * @param {string} name
   * @param {Inbox} inbox
   */
  _hold(name, inbox) {
    const holders = this._byName.get(name);
    if (holders) holders.add(inbox);
    else this._byName.set(name, new Set([inbox]));
  }

  _inboxes() {
    return [...this._tabs].flatMap((tab) => [...tab.inboxes.values()]);
  }

  // Publishes

  /**
   * @param {Shell} shell
   * @param {Tab} tab
   * @param {any} message
   */
  _publish(shell, tab, { ticket: theirs, topic, value, deleted, expect, key }) {
    const ticket = ++this._tickets;
    this._publishes.set(ticket, { tab, ticket: theirs });
    try {
      const cbor_bytes = deleted ? 0 : sizeOf(value);
      const wire_bytes = deleted ? 0 : utf8(stringify(value)).length;
      shell.handle({ event: "publish_requested", ticket, topic, value, deleted, expect, key, cbor_bytes, wire_bytes });
    } catch (error) {
      if (!(error instanceof SoftstateError)) throw error;
      this._settle(ticket, error);
    }
  }

  /**
   * @param {number} ticket
   * @param {any} outcome
   */
  _settle(ticket, outcome) {
    const asked = this._publishes.get(ticket);
    this._publishes.delete(ticket);
    const failed = outcome instanceof SoftstateError;
    const told = failed ? { error: pack(outcome) } : { result: outcome.version };
    asked?.tab.port.postMessage({ type: "outcome", ticket: asked.ticket, ...told });
  }

  // Reads

  /**
   * @param {Tab} tab
   * @param {any} message
   */
  async _get(tab, { ticket, topic, atLeast, timeoutMs }) {
    let told;
    try {
      told = { result: await this._reader?.get(topic, atLeast, timeoutMs, () => this._tabs.has(tab)) };
    } catch (error) {
      if (!(error instanceof SoftstateError)) throw error;
      told = { error: pack(error) };
    }
    tab.port.postMessage({ type: "outcome", ticket, ...told });
  }

  // Actions of the machine

  /** @param {import("../machine/core.js").Action} action */
  _perform(action) {
    switch (action.do) {
      case "deliver":
        for (const change of action.changes) this._deliver(change);
        return;
      case "settled":
        return this._settle(action.ticket, action.outcome);
      case "reset":
        return this._tell({ type: "reset", position: action.position });
      case "mode_changed":
        return this._tell({ type: "mode", mode: action.mode });
      case "node_refused":
        return this._tell({ type: "refused", url: action.url, error: pack(action.error) });
      case "topics_unreadable":
        return this._tell({ type: "unreadable", topics: action.topics });
      case "names_denied":
        return this._denied(action.names, action.narrow);
      case "fetch_token":
        this._tokens.set(action.number, {
          asked: new Set(),
          timer: null,
          rejected: action.rejected,
          attempt: action.attempt,
          until: Date.now() + TOKEN_MS_MAX,
        });
        return this._askToken(action.number);
      case "stopped":
        for (const tab of this._tabs) tab.port.postMessage({ type: "stopped", error: pack(action.error) });
    }
  }

  /** @param {import("../machine/known.js").Change} change */
  _deliver(change) {
    /** @type {Set<Inbox>} */
    const found = new Set();
    for (const name of [change.topic, ...reaching(change.topic)]) {
      for (const inbox of this._byName.get(name) ?? []) found.add(inbox);
    }
    for (const inbox of found) inbox.tell({ type: "change", ...change });
  }

  /** @param {import("./inbox.js").InboxEvent} event */
  _tell(event) {
    for (const inbox of this._inboxes()) inbox.tell(event);
    for (const tab of this._tabs) tab.owed = true;
  }

  /**
   * @param {string[]} names
   * @param {Record<string, string[]>} narrow
   */
  _denied(names, narrow) {
    /** @type {Map<Inbox, string[]>} */
    const told = new Map();
    for (const name of names) {
      for (const inbox of this._byName.get(name) ?? []) told.set(inbox, [...(told.get(inbox) ?? []), name]);
      this._byName.delete(name);
    }
    const belowOf = (/** @type {string} */ name) => (Object.hasOwn(narrow, name) ? narrow[name] : []);
    for (const [inbox, refused] of told) {
      const silent = inbox.narrow && refused.every((name) => belowOf(name).length);
      inbox.tell({ type: "denied", names: refused, below: refused.flatMap(belowOf), silent });
      for (const name of inbox.names) this._hold(name, inbox);
    }
  }

  /** @param {string} event that the machine has taken */
  _advanced(event) {
    for (const tab of this._tabs) {
      if (TOLD.includes(event)) tab.owed = true;
      if ((tab.outstanding || tab.away) && Date.now() - tab.heard > SILENT_MS_MAX) this._leave(tab);
      else this._flush(tab);
    }
  }

  /** @param {Tab} tab send it what is pending, unless it has yet to take what was sent before */
  _flush(tab) {
    const shell = this._shell;
    if (!shell || tab.outstanding || tab.away || !this._tabs.has(tab)) return;
    const pending = [...tab.inboxes.values()].some((inbox) => inbox.size);
    if (!tab.owed && !pending) return;
    const clock = shell.clock.now();
    const handles = [];
    let eventsLeft = EVENTS_MAX;
    let whole = true;
    for (const [id, inbox] of tab.inboxes) {
      const events = [];
      while (inbox.size && eventsLeft-- > 0) events.push(inbox.take());
      if (inbox.size) whole = false;
      // An age is about all that was posted: of what is cut off, it is told with the rest.
      const age = inbox.size ? null : shell.machine.age(clock, inbox.names);
      handles.push({ id, events, age, unreadable: shell.machine.unreadable([...inbox.names]) });
    }
    tab.owed = !whole;
    tab.outstanding = true;
    const { mode, position, lastError } = shell.machine;
    const state = { mode, position, error: lastError && pack(lastError), because: shell.because };
    tab.port.postMessage({ type: "update", seq: ++tab.seq, anchor: tab.anchor, clock, ...state, handles });
  }

  // Tokens

  /** @param {number} number of a fetch: ask a tab that has not been asked: one that is present, the one heard last */
  _askToken(number) {
    const fetch = this._tokens.get(number);
    if (!fetch) return;
    clearTimeout(fetch.timer);
    const tabs = [...this._tabs].filter((each) => each.provider && !fetch.asked.has(each));
    const [tab] = tabs.sort((one, other) => Number(one.away) - Number(other.away) || other.heard - one.heard);
    if (tab) {
      fetch.asked.add(tab);
      tab.port.postMessage({ type: "token", number, rejected: fetch.rejected, attempt: fetch.attempt });
    }
    const left = fetch.until - Date.now();
    if (left > 0) {
      fetch.timer = setTimeout(() => this._askToken(number), Math.min(tab ? TOKEN_TRY_MS : left, left));
    } else {
      const text = `the token function returned nothing within ${TOKEN_MS_MAX / 1000} s`;
      this._tokenCame({ number, error: pack(new SoftstateError("unavailable", text)) });
    }
  }

  /** @param {any} message */
  _tokenCame({ number, token, error, final = false }) {
    const fetch = this._tokens.get(number);
    if (!fetch) return;
    clearTimeout(fetch.timer);
    this._tokens.delete(number);
    if (error) this._shell?.handle({ event: "token_failed", number, error: unpack(error), final });
    else this._shell?.handle({ event: "token_got", number, token });
  }
}
