/**
 * The part that applications of all libraries share: each notes the values that it holds, and all that its library
 * tells it, with times of the monotonic clock, which is the same in all processes of a machine.
 *
 * usage: node DRIVER.js FOLDER PORT CLIENTS [OPTION]; FOLDER has the library. Commands and answers are JSON lines, as
 * `records.py` and `driver.py` read them: `open` (clients), `until` (topic, number, patience_s), `tell`.
 */
"use strict";

const { createRequire } = require("node:module");
const { subscribe } = require("node:diagnostics_channel");
const { createInterface } = require("node:readline");

/** Things that an application may be told at most; more ends the driver. */
const TOLD_MAX = 10_000;
const AGES_EVERY_MS = 100;
const LOOK_EVERY_MS = 10;
/** Clients that are opened at once. */
const OPENING = 20;

const [folder, port, count, option] = process.argv.slice(2);
const topics = ["kept", "still", "ticking"];

const now = () => Number(process.hrtime.bigint()) / 1e9;
const dials = [];
subscribe("net.client.socket", () => dials.push(now()));

/** One application, and what it knows. */
class Application {
  constructor() {
    this.values = {};
    this.told = [];
    this.ages = [];
    /** @type {(() => number) | null} */
    this.age = null;
  }

  /** Note the number that a topic has, if it is another than before. */
  holds(topic, number) {
    const values = (this.values[topic] ??= []);
    if (values.at(-1)?.[1] !== number) values.push([now(), number]);
  }

  /**
   * Note a thing that it is told. `current`: whether it may take what it holds for current now; null if that says nothing of
   * it. `topic`: of which topic alone.
   */
  isTold(text, current = null, topic = null) {
    if (this.told.length >= TOLD_MAX) throw new Error(`an application was told more than ${TOLD_MAX} things`);
    this.told.push([now(), text, current, topic]);
  }
}

/** Serve commands. `open` opens a client for an application, and resolves when its library says that it follows. */
async function drive(open) {
  const applications = [];
  const openMore = async (wanted) => {
    for (let left = wanted; left > 0; left -= OPENING) {
      const some = Array.from({ length: Math.min(OPENING, left) }, () => new Application());
      applications.push(...some);
      await Promise.all(some.map(open));
    }
    return { clients: applications.length };
  };
  const until = ({ topic, number, patience_s: patience }) =>
    new Promise((resolve) => {
      const ends = now() + patience;
      const look = () => {
        const holding = applications.filter((each) => each.values[topic]?.at(-1)[1] >= number).length;
        if (holding === applications.length || now() > ends) resolve({ holding });
        else setTimeout(look, LOOK_EVERY_MS);
      };
      look();
    });
  setInterval(() => applications.forEach((each) => each.age && each.ages.push([now(), each.age()])), AGES_EVERY_MS);

  await openMore(Number(count));
  answer({ clients: applications.length });
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    if (command.do === "open") answer(await openMore(command.clients));
    else if (command.do === "until") answer(await until(command));
    else answer({ dials, applications: applications.map(({ values, told, ages }) => ({ values, told, ages })) });
  }
  process.exit();
}

function answer(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

module.exports = { drive, folder, library: createRequire(`${folder}/`), option, port, topics };
