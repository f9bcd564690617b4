/**
 * Replays every trace of a folder, then again with each of some rows of the table broken, until a trace differs.
 * Arguments: the URL of softstate/web, the folder of the traces, the numbers of the rows. Prints what it found.
 */

import { deepStrictEqual } from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const [web, folder, rows] = process.argv.slice(2);
const { Replay } = await import(`${web}/machine/stdio.js`);
const { ROWS } = await import(`${web}/machine/table.js`);

const traces = readdirSync(folder, { recursive: true })
  .filter((name) => name.endsWith(".ndjson"))
  .map((name) => [name, readFileSync(join(folder, name), "utf8").trim().split("\n").map((line) => JSON.parse(line))]);

/** Return what differs first, or null. */
function difference([name, [head, ...lines]], Machine) {
  let at = 1;
  try {
    const replay = new Replay(head, Machine);
    for (const line of lines) {
      at += 1;
      for (let times = line.times ?? 1; times > 0; times--) {
        const found = line.look ? { look: replay.look(line) } : replay.step(line);
        for (const part of Object.keys(found)) deepStrictEqual(plain(found[part]), line[part], part);
      }
    }
    return null;
  } catch (error) {
    return `${name}, line ${at}: ${error.message}`;
  }
}

const plain = (found) => JSON.parse(JSON.stringify(found));

const differences = traces.map((trace) => difference(trace)).filter((found) => found !== null);
const unseen = [];
for (const row of JSON.parse(rows)) {
  const whole = ROWS[row];
  const [modes, triggers, to, actions] = whole;
  ROWS[row] = [modes, triggers, to !== null || actions.length ? null : "offline", []];
  const { Machine } = await import(`${web}/machine/machine.js?row=${row}`); // its table is made from the broken rows
  if (!traces.some((trace) => difference(trace, Machine) !== null)) unseen.push(row);
  ROWS[row] = whole;
}
console.log(JSON.stringify({ replayed: traces.length, differences: differences.slice(0, 5), unseen }));
