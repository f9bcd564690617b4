/**
 * The inbox of a subscription: pending changes, at most one a topic, and what became of the client.
 *
 * A newer change takes the place of the older one of its topic, where it is. So memory is bounded by the number of
 * topics, however slowly the application reads, and however long a tab is frozen.
 */

import { covered, reaching } from "../machine/names.js";

/**
 * @typedef {import("../machine/known.js").Change} Change
 * @typedef {import("../machine/errors.js").SoftstateError} SoftstateError
 * @typedef {({type: "change"} & Change)
 *   | {type: "reset", position: import("../machine/errors.js").Position}
 *   | {type: "mode", mode: import("../machine/core.js").Mode}
 *   | {type: "refused", url: string, error: any}
 *   | {type: "unreadable", topics: string[]}
 *   | {type: "denied", names: string[], below: string[], silent: boolean}} InboxEvent `silent`: others take their place
 */

export class Inbox {
  /**
   * @param {Iterable<string>} names
   * @param {boolean} [narrow] whether the names below a denied prefix that may be read take its place
   */
  constructor(names, narrow = false) {
    this.names = new Set(names);
    this.narrow = narrow;
    /** @type {Map<string, InboxEvent>} */
    this._pending = new Map();
    this._resets = 0;
    this._resetCount = 0;
  }

  get size() {
    return this._pending.size;
  }

  /** @returns {InboxEvent | undefined} the next event, taken out */
  take() {
    for (const [key, event] of this._pending) {
      this._pending.delete(key);
      if (event.type === "reset") this._resets -= 1;
      return event;
    }
  }

  /** @param {InboxEvent} event what comes behind all that is pending, or takes the place of what it makes obsolete */
  tell(event) {
    switch (event.type) {
      case "change":
        if (this._resets) this._pending.delete(event.topic); // never ahead of a reset
        this._pending.set(event.topic, event);
        break;
      case "reset":
        this._reset(event);
        break;
      case "mode":
        this._pending.delete("\0mode");
        this._pending.set("\0mode", event);
        break;
      case "refused":
        this._pending.set(`\0refused ${event.url}`, event);
        break;
      case "unreadable":
        this._unreadable(event.topics);
        break;
      case "denied":
        this._deny(event);
    }
  }

  /** Drop all that is pending. */
  clear() {
    this._pending.clear();
    this._resets = 0;
  }

  /**
   * Pending values are dropped: all of them follow again, or as deleted. Deletions stay, ahead of the reset: nothing
   * will say again that a topic is gone which the new history does not have either. Resets with nothing between them
   * become one.
   * @param {InboxEvent} reset
   */
  _reset(reset) {
    const before = [...this._pending];
    this._pending.clear();
    this._resets = 1;
    let bare = ""; // the last reset, as long as no deletion follows it
    const dropBare = () => bare && this._pending.delete(bare) && (this._resets -= 1);
    for (const [key, event] of before) {
      if (event.type === "unreadable" || (event.type === "change" && !event.deleted)) continue;
      if (event.type === "change") bare = "";
      this._pending.set(key, event);
      if (event.type !== "reset") continue;
      dropBare();
      this._resets += 1;
      bare = key;
    }
    dropBare();
    this._pending.set(`\0reset ${++this._resetCount}`, reset);
  }

  /** @param {string[]} topics */
  _unreadable(topics) {
    const pending = this._pending.get("\0damaged");
    const before = pending?.type === "unreadable" ? pending.topics : [];
    const mine = topics.filter((topic) => [topic, ...reaching(topic)].some((name) => this.names.has(name)));
    if (!mine.length) return;
    this._pending.set("\0damaged", { type: "unreadable", topics: [...new Set([...before, ...mine])] });
  }

  /** @param {InboxEvent & {type: "denied"}} denied names: what is pending of them alone is dropped */
  _deny({ names, below, silent }) {
    const refused = names.filter((name) => this.names.delete(name));
    if (this.narrow) for (const name of below) this.names.add(name);
    for (const [key, event] of [...this._pending]) {
      if (event.type === "change" && !covered(this.names, event.topic)) this._pending.delete(key);
    }
    const pending = this._pending.get("\0denied");
    const before = pending?.type === "denied" ? pending : { names: [], below: [], silent };
    const told = { names: [...before.names, ...refused], below: [...before.below, ...below] };
    silent &&= before.silent;
    if (refused.length) this._pending.set("\0denied", { type: "denied", ...told, silent });
  }
}
