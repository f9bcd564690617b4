/**
 * A client of browsers in Node.js, for `bench browser`: follows one channel or prefix, and tells what was delivered.
 * Arguments: "softstate" or "centrifugo", the module of its client, the port of its server. Commands and answers are
 * JSON lines: {"count": n} is answered once so many changes were delivered, {"value": n} once a value that high was.
 */

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [system, module, port] = process.argv.slice(2);
const library = await import(pathToFileURL(module));

let count = 0;
let newest = -1;
/** @type {(() => void) | null} */
let look = null;
const delivered = (value) => {
  count += 1;
  newest = Math.max(newest, value.n);
  look?.();
};
const until = (reached) =>
  new Promise((resolve) => {
    look = () => reached() && resolve(undefined);
    look();
  });

if (system === "softstate") {
  const client = library.connect(`ws://127.0.0.1:${port}`, { worker: "page" });
  const updates = client.subscribe("bench/");
  updates.addEventListener("change", ({ detail }) => delivered(detail.value));
  await updates.fresh();
  while (client.mode !== "live") await new Promise((resolve) => client.addEventListener("mode", resolve, { once: true }));
} else {
  const client = new library.Centrifuge(`ws://127.0.0.1:${port}/connection/websocket`);
  const subscription = client.newSubscription("state:bench");
  const live = new Promise((resolve) => subscription.once("subscribed", resolve));
  subscription.on("publication", ({ data }) => delivered(data));
  subscription.subscribe();
  client.connect();
  await live;
}
process.stdout.write(`{"live":true}\n`);

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  if ("count" in command) await until(() => count >= command.count);
  else await until(() => newest >= command.value);
  const { user, system: kernel } = process.cpuUsage();
  process.stdout.write(`${JSON.stringify({ count, cpu_s: (user + kernel) / 1e6 })}\n`);
}
process.exit();
