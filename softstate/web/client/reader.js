/** Reads of single topics over HTTP, without a subscription: one node after another, until one answers. */

import { SoftstateError } from "../machine/errors.js";
import { asked } from "../machine/backoff.js";
import { bars } from "../machine/core.js";

/** How long one node may take at least before another one is asked; more if the time that is left allows it for all. */
const PART_S_MIN = 1;
/** How long one node may take at most: it answers within 5 s, even if it waits for a version. */
const PART_S_MAX = 10;
/** How much longer than asked a read waits that names a version: a node waits as long itself before it says `behind`. */
const BEHIND_S = 1;
/** Shortest wait that a node can ask for. */
const WAIT_S_MIN = 0.01;
/** A node that asked for no wait is asked again after a time from 0 to min(cap, base · 2^rounds). */
const WAIT_BASE_S = 0.1;
const WAIT_CAP_S = 5;
/** Answers after which asking again makes sense. */
const TRY_ELSEWHERE = ["behind", "overloaded", "unavailable"];

export class Reader {
  /** @param {import("./shell.js").Shell} shell */
  constructor(shell) {
    this._shell = shell;
    this._first = 0;
  }

  /**
   * Read a topic's state; resolves to undefined if nothing is known of it. Each node has its part of the time, a second
   * at least; one that said when to come back is not asked before. Rejects with the error of the node that was asked
   * last once the time is over.
   * @param {string} topic
   * @param {number | null} atLeast
   * @param {number} timeoutMs
   * @param {() => boolean} wanted whether anybody waits for it: if not, no other node is asked
   * @returns {Promise<import("../machine/known.js").Change | undefined>}
   */
  async get(topic, atLeast, timeoutMs, wanted) {
    const { urls } = this._shell;
    const query = atLeast === null ? "" : `?at_least=${atLeast}`;
    const path = `/v1/topics/${topic.split("/").map(encodeURIComponent).join("/")}${query}`;
    const now = () => this._shell.clock.now();
    const ends = now() + timeoutMs / 1000 + (atLeast === null ? 0 : BEHIND_S);
    const free = urls.map(() => -Infinity);
    const refusing = new Set();
    /** @type {any} */
    let last = new SoftstateError("unavailable", "no node was reached");
    for (let round = 0; now() < ends && wanted(); round++) {
      for (let i = 0; i < urls.length && now() < ends && wanted(); i++) {
        const at = (this._first + i) % urls.length;
        if (now() < free[at]) continue;
        const part = Math.min(Math.max((ends - now()) / (urls.length - i), PART_S_MIN), PART_S_MAX);
        try {
          const found = await this._read(urls[at], path, part, ends);
          this._first = at;
          return found && { topic, ...found };
        } catch (error) {
          if (!(error instanceof SoftstateError)) throw error;
          const barred = bars(error);
          if (barred) refusing.add(at);
          if (!(barred ? refusing.size < urls.length : TRY_ELSEWHERE.includes(error.code))) throw error;
          const silent = error.why === "silent";
          if (!(last.code === "behind" && silent)) last = error; // that a node is behind says more
          const cap = Math.min(WAIT_CAP_S, WAIT_BASE_S * 2 ** Math.min(round, 16));
          free[at] = now() + (error.retryMs === null ? Math.random() * cap : Math.max(asked(error.retryMs), WAIT_S_MIN));
        }
      }
      const wait = Math.min(ends, ...free) - now();
      if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait * 1000));
    }
    if (last.why !== "silent") throw last;
    throw new SoftstateError("unavailable", `no node answered within ${timeoutMs} ms; the last one: ${last.message}`);
  }

  /**
   * Read from one node; once more with each token that comes for one that it refuses.
   * @param {string} url
   * @param {string} path
   * @param {number} part seconds
   * @param {number} ends
   */
  async _read(url, path, part, ends) {
    const shell = this._shell;
    await shell.anotherToken(null, ends);
    for (;;) {
      const presented = shell.token;
      try {
        return await shell.get(url, path, part);
      } catch (error) {
        if (!(error instanceof SoftstateError) || error.code !== "unauthenticated") throw error;
        if (!(await shell.anotherToken(presented, ends, error))) throw error;
      }
    }
  }
}
