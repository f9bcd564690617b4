/** The entry of the worker: a SharedWorker serves each tab by a port, a dedicated one its page by itself. */

import { Engine } from "./engine.js";
import { holdLock } from "./lock.js";

export { Engine };
export { Machine } from "../machine/machine.js";
export { Random } from "../machine/backoff.js";

const scope = /** @type {any} */ (globalThis);

if (typeof scope.SharedWorkerGlobalScope === "function" && scope instanceof scope.SharedWorkerGlobalScope) {
  const engine = new Engine();
  const { lock } = holdLock();
  scope.onconnect = async (/** @type {any} */ { ports }) => engine.attach(ports[0], await lock);
} else if (typeof scope.DedicatedWorkerGlobalScope === "function" && scope instanceof scope.DedicatedWorkerGlobalScope) {
  void holdLock().lock.then((lock) => new Engine().attach(scope, lock));
}
