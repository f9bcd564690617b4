/** Locks of the browser, by which a page and its worker hear of each other's end: no event tells of it everywhere. */

/** How long a browser may take to grant a lock, before one does without: less than pages wait for a worker. */
const LOCK_MS = 3000;

/**
 * Hold a lock for as long as this page or worker lives: another one hears of its end by getting it. So the other may be
 * told the name only once this one has it: requests of two contexts arrive in any order, and one that is first takes the
 * other for gone. `lock` resolves to the name, or to "" if there is no lock to be had.
 */
export function holdLock() {
  const name = `softstate ${crypto.getRandomValues(new Uint32Array(4))}`;
  /** @type {any} */
  let release;
  const released = new Promise((resolve) => (release = resolve));
  const lock = new Promise((resolve) => {
    const { locks } = navigator;
    const none = () => resolve("");
    if (!locks) return none();
    locks.request(name, () => (resolve(name), released)).catch(none); // by its origin, a page may be refused locks
    setTimeout(none, LOCK_MS);
  });
  return { lock, release };
}

