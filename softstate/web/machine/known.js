/** The newest known state of each topic, found by topic or by prefix, in a tree of segments. */

import { ALL, SPELT, isPrefix } from "./names.js";

/** @typedef {{topic: string, version: number, value: any, deleted: boolean}} Change the newest state of one topic */

/**
 * Return the narrowest prefix above a topic, or above a prefix other than "/".
 * @param {string} name
 * @returns {string}
 */
function parentOf(name) {
  return name.slice(0, name.slice(0, -1).lastIndexOf("/") + 1) || (name[0] === SPELT ? SPELT : ALL);
}

export class KnownTopics {
  constructor() {
    /** @type {Map<string, Change>} for reading only */
    this.states = new Map();
    /** @type {Map<string, Set<string>>} */
    this._children = new Map();
  }

  /** @param {Change} change a state, in place of the one known before */
  keep(change) {
    if (!this.states.has(change.topic)) this._enter(change.topic);
    this.states.set(change.topic, change);
  }

  /** @param {string} topic one that is known */
  forget(topic) {
    this.states.delete(topic);
    for (let name = topic; ; ) {
      const above = parentOf(name);
      const siblings = /** @type {Set<string>} */ (this._children.get(above));
      siblings.delete(name);
      if (siblings.size) return;
      this._children.delete(above);
      if (above === ALL || above === SPELT) return;
      name = above;
    }
  }

  /**
   * List the known topics below a prefix, without those that `but` has, or that are below a prefix which it has.
   * @param {string} prefix
   * @param {{has(name: string): boolean} | null} [but]
   * @returns {string[]}
   */
  below(prefix, but = null) {
    /** @type {string[]} */
    const found = [];
    const levels = [(this._children.get(prefix) ?? new Set()).values()];
    while (levels.length) {
      const { value: name, done } = levels[levels.length - 1].next();
      if (done) levels.pop();
      else if (but?.has(name)) continue;
      else if (isPrefix(name)) levels.push(/** @type {Set<string>} */ (this._children.get(name)).values());
      else found.push(name);
    }
    return found;
  }

  /** @param {Change[]} changes know these states, and nothing else */
  replace(changes) {
    this.states.clear();
    this._children.clear();
    for (const change of changes) this.keep(change);
  }

  /** @param {string} name */
  _enter(name) {
    for (;;) {
      const above = parentOf(name);
      const siblings = this._children.get(above);
      if (siblings) {
        siblings.add(name);
        return;
      }
      this._children.set(above, new Set([name]));
      if (above === ALL || above === SPELT) return;
      name = above;
    }
  }
}
