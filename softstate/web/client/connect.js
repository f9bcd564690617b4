/** `connect`: reads what an application gives, and finds the best place for the machine to run. */

import { SoftstateError } from "../machine/errors.js";
import { sha256 } from "../machine/digest.js";
import { utf8 } from "../machine/names.js";
import { clients } from "./age_element.js";
import { Client } from "./client.js";
import { holdLock } from "./lock.js";

const NAME_CHARS_MAX = 128;
const DURATION_MS_MAX = 7 * 24 * 3_600_000;
/** How long a worker may take to answer, before the machine runs elsewhere. */
const READY_MS = 5000;
/** How long after the end of a worker another place is looked for: it may end as soon as it begins. */
const AGAIN_MS = 500;
/** The time between two beats that a client asks for. */
const BEAT_MS = 1000;

/**
 * @typedef {object} ConnectOptions
 * @property {number} [maxAge] seconds: how old what is known may be for `read`, if that does not say
 * @property {string | import("./client.js").TokenFunction} [token] credentials, or an async function that fetches them
 * @property {string} [principal] whose the tokens of that function are; tabs with the same one share a connection
 * @property {string} [name] what nodes call this client in their logs
 * @property {boolean} [push] false: poll only
 * @property {number} [ttlMs] the longest lease to ask for
 * @property {"shared" | "dedicated" | "page"} [worker] where the machine may run at best; by default the first of these
 *   that there is
 * @property {string | URL} [workerUrl] where `softstate-worker.js` is, if not beside this module
 * @property {any} [WebSocket] the class of WebSockets, for Node.js below 22
 * @property {typeof fetch} [fetch]
 */

const page = /** @type {any} */ (globalThis);

/** @param {string} text */
const wrong = (text) => new SoftstateError("invalid", text);

/**
 * Read a node's URL: ws, wss, http or https. Returns its normal form, which begins with ws.
 * @param {unknown} text
 * @returns {string}
 */
export function nodeUrl(text) {
  if (typeof text !== "string" && !(text instanceof URL)) throw wrong("urls must be text, or a list of texts");
  const url = URL.canParse(text, page.location?.href) ? new URL(text, page.location?.href) : null;
  if (!url || !/^(ws|http)s?:$/.test(url.protocol)) throw wrong(`'${text}' must begin with ws://, wss://, http:// or https://`);
  if (url.username || url.password) throw wrong(`the URL of '${url.host}' must not hold credentials: give them as token`);
  if (url.search || url.hash) throw wrong(`'${text}' must not have a query or a fragment`);
  const path = url.pathname.replace(/\/+$/, "");
  if (/(^|\/)v1(\/ws)?$/.test(path)) throw wrong(`'${text}' must be the base URL of the node: leave out the part from /v1 on`);
  return `${url.protocol.replace("http", "ws")}//${url.host}${path}`;
}

/**
 * @param {ConnectOptions} options
 * @returns {void}
 */
function check({ maxAge, token, name, push, ttlMs, worker, workerUrl, principal }) {
  if (maxAge !== undefined && !(typeof maxAge === "number" && maxAge > 0)) {
    throw wrong(`maxAge must be a number of seconds above 0, not ${String(maxAge)}`);
  }
  if (token !== undefined && typeof token !== "function" && !/^[\x20-\x7e]{1,8192}$/.test(String(token))) {
    throw wrong("token must be text of 1 to 8192 printable ASCII characters, or an async function that returns it");
  }
  for (const [field, text] of Object.entries({ name, principal })) {
    if (text !== undefined && (typeof text !== "string" || text.length > NAME_CHARS_MAX)) {
      throw wrong(`${field} must be text of at most ${NAME_CHARS_MAX} characters`);
    }
  }
  if (push !== undefined && typeof push !== "boolean") throw wrong("push must be true or false");
  if (ttlMs !== undefined && !(Number.isInteger(ttlMs) && ttlMs > 0 && ttlMs <= DURATION_MS_MAX)) {
    throw wrong(`ttlMs must be a whole number from 1 to ${DURATION_MS_MAX}, not ${String(ttlMs)}`);
  }
  if (worker !== undefined && !["shared", "dedicated", "page"].includes(worker)) {
    throw wrong(`worker must be 'shared', 'dedicated' or 'page', not '${worker}'`);
  }
  if (workerUrl !== undefined && !URL.canParse(workerUrl, import.meta.url)) {
    throw wrong(`workerUrl must say where softstate-worker.js is, not '${workerUrl}'`);
  }
}

/**
 * Connect to one or several nodes of one store; without `urls`, to the node that the page came from.
 *
 * It returns at once, and never fails because a node does: `client.mode` tells how it stands, `client.because` why.
 * Throws `invalid` for an argument that it cannot use.
 * @param {string | URL | (string | URL)[]} [urls]
 * @param {ConnectOptions} [options]
 * @returns {Client}
 */
export function connect(urls, options = {}) {
  if (urls === undefined && !page.location) throw wrong("there is no page, so say which node: connect('ws://127.0.0.1:8700')");
  const given = [urls ?? page.location.origin].flat();
  if (!given.length) throw wrong("urls must name at least one node");
  check(options);
  const { maxAge = Infinity, token, principal = "", name = "", push = true, ttlMs = null } = options;
  const provider = typeof token === "function" ? token : null;
  const settings = {
    urls: given.map(nodeUrl),
    push,
    name,
    token: typeof token === "string" ? token : null,
    provider: !!provider,
    ttl_ms: ttlMs,
    beat_ms: Math.max(Math.min(BEAT_MS, Math.floor(maxAge * 500)), 1),
  };
  const client = new Client(settings, provider, maxAge);
  clients.push(client);
  void place(client, settings, principal, { ...options });
  return client;
}

/**
 * Find a place for the machine, and attach the client to it; again when that has ended before the client.
 * @param {Client} client
 * @param {any} settings
 * @param {string} principal
 * @param {ConnectOptions} options
 * @param {boolean} [again] whether the client had a place: then it is not given up where none can be loaded
 */
async function place(client, settings, principal, options, again = false) {
  const { worker = "shared", workerUrl, WebSocket, fetch } = options;
  const url = new URL(workerUrl ?? "./softstate-worker.js", import.meta.url);
  const own = page.location && url.origin === page.location.origin;
  const forget = () => void clients.splice(clients.indexOf(client), 1);
  const next = () => void place(client, settings, principal, options, true);
  let found = null;
  let shared = false;
  if (worker === "shared" && own && page.SharedWorker) {
    const key = sha256(utf8(JSON.stringify([settings, principal]))).join();
    found = await ready(() => new SharedWorker(url, { type: "module", name: `softstate ${key}` }));
    shared = !!found;
  }
  if (!found && worker !== "page" && page.Worker && page.document) found = await ready(() => dedicated(url, own));
  const { port: started, lock: theirs } = found ?? {};
  let port = started;
  if (!port) {
    const module = await loaded(url, client, !again);
    if (!module) return again && client.mode !== "closed" ? void setTimeout(next, READY_MS) : forget();
    const [one, other] = pair();
    new module.Engine({ WebSocket, fetch }).attach(other);
    port = one;
  }
  const { lock, release } = shared ? holdLock() : { lock: "", release() {} };
  const held = await lock;
  const leave = listen(client, shared);
  const over = new AbortController();
  const part = () => {
    over.abort();
    leave();
    release();
    client.onclose = client.onlost = () => {};
  };
  client.onclose = () => {
    part();
    forget();
    setTimeout(() => started?.terminate?.(), 1000); // what it says goodbye with is still under way
  };
  if (client.mode === "closed") return client.onclose();
  if (found) client.onlost = () => {
    if (client.mode === "stopped") return;
    part();
    client.lose();
    setTimeout(next, AGAIN_MS);
  };
  client.attach(port, held);
  // Others wait for its end too: by a shared lock, one that is frozen does not hold them up.
  const waiting = { mode: /** @type {const} */ ("shared"), signal: over.signal };
  if (theirs) navigator.locks?.request(theirs, waiting, () => {}).then(() => client.onlost(), () => {});
}

/**
 * Load the machine into the page; tell the client, and return nothing, if it is not there.
 * @param {URL} url
 * @param {Client} client
 * @param {boolean} final whether it stops the client
 */
async function loaded(url, client, final) {
  try {
    return await import(/* @vite-ignore */ url.href);
  } catch (error) {
    const { message } = /** @type {Error} */ (error);
    client.stop(wrong(`${url.href} cannot be loaded (${message}): put softstate-worker.js beside softstate.js, or say where it is as workerUrl`), final);
  }
}

/**
 * @param {URL} url
 * @param {boolean} own whether it is of this page's origin: else a worker of this page's own has to import it
 */
function dedicated(url, own) {
  if (own) return new Worker(url, { type: "module" });
  const text = `import ${JSON.stringify(url.href)};`;
  return new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })), { type: "module" });
}

/**
 * Start a worker; resolves to its port and the name of its lock, or to null if it does not begin.
 * @param {() => any} start
 * @returns {Promise<any>}
 */
function ready(start) {
  return new Promise((resolve) => {
    try {
      const worker = start();
      const port = worker.port ?? worker;
      worker.onerror = () => resolve(null);
      setTimeout(() => resolve(null), READY_MS);
      port.onmessage = (/** @type {any} */ { data }) => resolve({ port, lock: data.lock }); // it says that it is ready
    } catch {
      resolve(null); // a page may not start workers: by its policy, or in private windows
    }
  });
}

/** Two ends of a channel within this page: what is posted at one arrives at the other, later. */
export function pair() {
  /** @type {any[]} */
  const ends = [0, 1].map((at) => ({
    onmessage: null,
    /** @param {any} data */
    postMessage: (data) => queueMicrotask(() => ends[1 - at].onmessage?.({ data })),
  }));
  return ends;
}

/**
 * Tell the engine what becomes of the page; returns how to stop.
 * @param {Client} client
 * @param {boolean} shared whether the machine lives on while this page is frozen
 */
function listen(client, shared) {
  if (!page.document) return () => {};
  const jumped = () => client.tell("jumped");
  /** @type {[EventTarget, string, (event: any) => void][]} */
  const heard = [
    [page, "online", () => client.tell("online")],
    [page, "pageshow", (event) => event.persisted && jumped()],
    [page.document, "resume", jumped],
    [page.document, "visibilitychange", () => !shared && page.document.visibilityState === "visible" && jumped()],
    [page, "pagehide", (event) => client.tell(event.persisted ? "away" : "close")],
  ];
  for (const [target, type, listener] of heard) target.addEventListener(type, listener);
  return () => {
    for (const [target, type, listener] of heard) target.removeEventListener(type, listener);
  };
}
