/**
 * Runs one machine over standard input and output, for tests in other languages: one JSON text a line.
 *
 * Lines are those of a conformance trace (softstate/testing/conformance/client/README.md): a header makes a machine, a
 * step is answered by what the machine does, a look by what it tells. `node stdio.js --stdio`.
 */

import { createInterface } from "node:readline";

import { Advice, Random } from "./backoff.js";
import { OPTIONS } from "./core.js";
import { SoftstateError, errorOf } from "./errors.js";
import { Machine } from "./machine.js";
import { fill } from "./messages.js";

/** Infinity, and what has no value, is null. @param {number} number */
const finite = (number) => (Number.isFinite(number) ? number : null);

export class Replay {
  /**
   * @param {any} head the first line of a trace
   * @param {typeof Machine} [Made] the class of the machine
   */
  constructor({ options = {}, draws = [] }, Made = Machine) {
    /** @type {any[]} */
    this._draws = draws;
    const draw = () => {
      if (!this._draws.length) throw new Error("the machine draws a number that is not expected");
      return this._draws.shift();
    };
    const { advice, ...rest } = options;
    /** @type {any} */
    const all = { ...rest, ...(advice && { advice: adviceOf(advice) }) };
    this.machine = new Made(all, new Random(draw, draw));
    this._left();
  }

  /**
   * Take one step; return what the machine does.
   * @param {any} step
   */
  step({ t, draws = [], ...event }) {
    this._draws = [...draws];
    const actions = this.machine.handle(eventOf(event), t).map(actionOf);
    this._left();
    return {
      do: actions,
      mode: this.machine.mode,
      due: finite(this.machine.deadline()),
      age: finite(this.machine.age(t)),
    };
  }

  /**
   * Answer questions about names, and about the machine.
   * @param {{t: number, look: {known: Record<string, any>}}} look
   */
  look({ t, look }) {
    const { machine } = this;
    const names = Object.keys(look.known);
    const counts = Object.entries(machine.statistics()).filter(([, count]) => count);
    return {
      position: machine.position,
      known: Object.fromEntries(names.map((name) => [name, machine.known(name).map(changeOf)])),
      ages: Object.fromEntries(names.map((name) => [name, finite(machine.age(t, [name]))])),
      unreadable: machine.unreadable(),
      value_bytes_max: machine.valueBytesMax,
      last_error: machine.lastError && errorForm(machine.lastError),
      statistics: Object.fromEntries(counts),
    };
  }

  _left() {
    if (this._draws.length) throw new Error(`the machine does not draw ${JSON.stringify(this._draws)}`);
  }
}

/** @param {any} advice as `Advice` of the Python machine has it */
function adviceOf({ poll_every_s, poll_spread_s, recover_spread_s, base_s, cap_s }) {
  return new Advice(poll_every_s, poll_spread_s, recover_spread_s, base_s, cap_s);
}

/** @param {any} event */
function eventOf(event) {
  const read = { ...event };
  if (read.error) read.error = errorOf(read.error);
  if (read.event === "arrived") read.message = fill(read.message);
  if (read.event === "poll_answered") read.message = fill({ op: "polled", ...read.message });
  return read;
}

/** @param {any} action */
function actionOf({ do: kind, ...fields }) {
  if (kind === "send_publish") {
    const { batch, ...rest } = fields;
    return { [kind]: { publisher: null, seq: 0, settled: 0, ...rest, ...batch } };
  }
  if (kind === "deliver") fields.changes = fields.changes.map(changeOf);
  if (fields.error) fields.error = errorForm(fields.error);
  if (kind === "settled") fields.outcome = outcomeOf(fields.outcome);
  return { [kind]: fields };
}

/** @param {import("./known.js").Change} change with its value, or `deleted` */
function changeOf({ topic, version, value, deleted }) {
  return { topic, version, ...(deleted ? { deleted } : { value }) };
}

/** @param {any} outcome */
function outcomeOf(outcome) {
  if (outcome instanceof SoftstateError) return errorForm(outcome);
  const { repeated, ...published } = outcome;
  return { ...published, ...(repeated && { repeated }) };
}

/** @param {SoftstateError} error */
function errorForm({ code, message, retryMs, current, position, why }) {
  const fields = { code, message, retry_ms: retryMs, current, position, why };
  return Object.fromEntries(Object.entries(fields).filter(([, field]) => field !== null));
}

if (process.argv.includes("--stdio")) {
  /** @type {Replay | null} */
  let replay = null;
  for await (const line of createInterface({ input: process.stdin })) {
    const read = JSON.parse(line);
    let answer;
    try {
      if (read.options) answer = { made: !!(replay = new Replay(read)) };
      else if (read.look) answer = { look: /** @type {Replay} */ (replay).look(read) };
      else answer = /** @type {Replay} */ (replay).step(read);
    } catch (error) {
      answer = { failed: String(/** @type {Error} */ (error).stack) };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
}
