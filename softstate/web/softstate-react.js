/**
 * A hook for React: `const { value, version, fresh } = useTopic("prices/eur", { maxAge: 5, client })`.
 *
 * It renders again on a change, and when the topic becomes fresh or stale, not each second. `value` is the newest known,
 * also when it is stale; `undefined` if there is none. The client is that of `SoftstateContext` if it is not given.
 */

import { createContext, useContext, useEffect, useMemo, useSyncExternalStore } from "react";

/** @typedef {{value: any, version: number, fresh: boolean}} Topic */

const NOTHING = Object.freeze({ value: undefined, version: 0, fresh: false });

/** Provides a client to `useTopic`: `<SoftstateContext.Provider value={client}>`. */
export const SoftstateContext = createContext(/** @type {any} */ (null));

/**
 * @param {string} topic
 * @param {{maxAge?: number, client?: any}} [options] `maxAge` in seconds, 5 by default
 * @returns {Topic}
 */
export function useTopic(topic, { maxAge = 5, client } = {}) {
  const provided = useContext(SoftstateContext);
  const used = client ?? provided;
  if (!used) throw new Error("useTopic needs a client: give it one, or wrap the page in SoftstateContext.Provider");
  const store = useMemo(() => followed(used, topic, maxAge), [used, topic, maxAge]);
  useEffect(() => store.stop, [store]);
  return useSyncExternalStore(store.subscribe, store.snapshot, () => NOTHING);
}

/**
 * Follow a topic for as long as somebody listens; the snapshot is the same object as long as nothing has changed.
 * @param {any} client
 * @param {string} topic
 * @param {number} maxAge
 */
export function followed(client, topic, maxAge) {
  /** @type {any} */
  let updates = null;
  /** @type {any} */
  let timer = null;
  /** @type {Topic} */
  let shown = NOTHING;
  const listeners = new Set();

  const look = () => {
    clearTimeout(timer);
    if (!updates) return;
    const { age } = updates;
    const known = updates.get(topic);
    const fresh = age <= maxAge;
    if (fresh) timer = setTimeout(look, (maxAge - age) * 1000 + 1);
    if (shown.fresh === fresh && shown.version === (known?.version ?? 0)) return;
    shown = Object.freeze({ value: known?.value, version: known?.version ?? 0, fresh });
    for (const listener of listeners) listener();
  };
  const stop = () => {
    clearTimeout(timer);
    updates?.close();
    updates = null;
  };
  return {
    stop,
    snapshot: () => shown,
    subscribe: (/** @type {() => void} */ listener) => {
      listeners.add(listener);
      if (!updates) {
        updates = client.subscribe(topic);
        for (const type of ["change", "age", "reset", "error"]) updates.addEventListener(type, look);
      }
      return () => {
        listeners.delete(listener);
        if (!listeners.size) stop();
      };
    },
  };
}
