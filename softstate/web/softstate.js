/* softstate, Apache-2.0. Made from the modules of softstate/web/, which are for reading. */
const CODES = new Set(
(
"invalid unsupported unauthenticated denied not_found conflict key_reused no_lease compacted rewound too_large " +
"unreadable overloaded unavailable behind"
).split(" "),
);
class SoftstateError extends Error {
constructor(code, message, details = {}) {
super(message);
this.name = "SoftstateError";
this.code = code;
this.retryMs = details.retryMs ?? null;
this.current = details.current ?? null;
this.position = details.position ?? null;
this.why = details.why ?? null;
this.age = Infinity;
}
}
function errorOf({ code, message = "", retry_ms, current, position, why }) {
const details = { retryMs: retry_ms, current, position, why };
return CODES.has(code)
? new SoftstateError(code, message, details)
: new SoftstateError("error", `${code}: ${message}`, details);
}
function isKnownCode(code) {
return CODES.has(code);
}
const ALL = "/";
const SPELT = "$";
const TOPIC_BYTES_MAX = 255;
const encoder = new TextEncoder();
function utf8(text) {
return encoder.encode(text);
}
function isPrefix(name) {
return name.endsWith("/");
}
function reaching(topic) {
const found = topic[0] === SPELT ? [] : [ALL];
for (let at = topic.indexOf("/"); at >= 0; at = topic.indexOf("/", at + 1)) found.push(topic.slice(0, at + 1));
return found;
}
function covered(names, topic) {
return names.has(topic) || reaching(topic).some((prefix) => names.has(prefix));
}
function checkName(name, field, prefixes = false) {
const wrong = ( rule) => new SoftstateError("invalid", `${field} must ${rule}`);
if (typeof name !== "string") throw wrong(`be text, not ${typeof name}`);
if (prefixes && name === ALL) return name;
const topic = prefixes && isPrefix(name) ? name.slice(0, -1) : name;
if (/\p{Surrogate}/u.test(topic)) throw wrong("be valid Unicode (it holds a lone surrogate)");
const size = utf8(topic).length;
if (size < 1 || size > TOPIC_BYTES_MAX) {
throw wrong(`be 1 to ${TOPIC_BYTES_MAX} bytes of UTF-8, this one has ${size}`);
}
if (/[\x00-\x1f\x7f-\x9f]/.test(topic)) throw wrong("not hold control characters");
if (topic.split("/").some((segment) => ["", ".", ".."].includes(segment))) {
throw wrong(`not begin or end with '/', nor hold an empty, '.' or '..' segment: '${name}'`);
}
return name;
}
const words = ( hex) => Int32Array.from(hex.match(/.{8}/g) ?? [], (word) => parseInt(word, 16));
const START = words("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19");
const ROUNDS = words(
"428a2f9871374491b5c0fbcfe9b5dba53956c25b59f111f1923f82a4ab1c5ed5d807aa9812835b01243185be550c7dc3" +
"72be5d7480deb1fe9bdc06a7c19bf174e49b69c1efbe47860fc19dc6240ca1cc2de92c6f4a7484aa5cb0a9dc76f988da" +
"983e5152a831c66db00327c8bf597fc7c6e00bf3d5a7914706ca63511429296727b70a852e1b21384d2c6dfc53380d13" +
"650a7354766a0abb81c2c92e92722c85a2bfe8a1a81a664bc24b8b70c76c51a3d192e819d6990624f40e3585106aa070" +
"19a4c1161e376c082748774c34b0bcb5391c0cb34ed8aa4a5b9cca4f682e6ff3748f82ee78a5636f84c878148cc70208" +
"90befffaa4506cebbef9a3f7c67178f2",
);
const turn = ( word,  bits) => (word >>> bits) | (word << (32 - bits));
function sha256(bytes) {
const size = ((bytes.length + 72) >> 6) << 6;
const padded = new DataView(new ArrayBuffer(size));
new Uint8Array(padded.buffer).set(bytes);
padded.setUint8(bytes.length, 0x80);
padded.setUint32(size - 8, Math.floor(bytes.length / 2 ** 29));
padded.setUint32(size - 4, bytes.length << 3);
const hash = START.slice();
const schedule = new Int32Array(64);
for (let at = 0; at < size; at += 64) {
for (let i = 0; i < 64; i++) {
if (i < 16) {
schedule[i] = padded.getInt32(at + 4 * i);
} else {
const w15 = schedule[i - 15];
const w2 = schedule[i - 2];
const s0 = turn(w15, 7) ^ turn(w15, 18) ^ (w15 >>> 3);
const s1 = turn(w2, 17) ^ turn(w2, 19) ^ (w2 >>> 10);
schedule[i] = schedule[i - 16] + s0 + schedule[i - 7] + s1;
}
}
let [a, b, c, d, e, f, g, h] = hash;
for (let i = 0; i < 64; i++) {
const choice = (e & f) ^ (~e & g);
const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + choice + ROUNDS[i] + schedule[i]) | 0;
const majority = (a & b) ^ (a & c) ^ (b & c);
const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + majority) | 0;
[h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
}
[a, b, c, d, e, f, g, h].forEach((word, i) => (hash[i] += word));
}
return hash;
}
function nameHash(name) {
const hash = sha256(utf8(name));
return (BigInt(hash[0] >>> 0) << 32n) | BigInt(hash[1] >>> 0);
}
function digestText(digest) {
return BigInt.asUintN(64, digest).toString(16).padStart(16, "0");
}
const clients = [];
const SHOWN_EVERY_MS = 500;
const WARN_S = 5;
function ageText(age) {
if (age === Infinity) return "unknown";
if (age < 10) return `${age.toFixed(1)} s`;
return age < 120 ? `${Math.round(age)} s` : `${Math.round(age / 60)} min`;
}
function defineAge() {
const { HTMLElement: Base, customElements } =  (globalThis);
if (!customElements || customElements.get("soft-age")) return;
customElements.define(
"soft-age",
class extends Base {
static observedAttributes = ["for"];
connectedCallback() {
this._timer = setInterval(() => this._show(), SHOWN_EVERY_MS);
this._follow();
}
disconnectedCallback() {
clearInterval(this._timer);
this._updates?.close();
this._updates = null;
}
attributeChangedCallback() {
if (this.isConnected) this._follow();
}
_follow() {
this._updates?.close();
const client = this.client ?? clients[0];
const name = this.getAttribute("for");
this._updates = client && name && client.mode !== "closed" ? client.subscribe(name) : null;
this._updates?.addEventListener("age", () => this._show());
this._show();
}
_show() {
if (!this._updates && (this.client ?? clients[0])) return void (this.getAttribute("for") && this._follow());
const age = this._updates?.age ?? Infinity;
const warn = Number(this.getAttribute("warn") ?? WARN_S);
this.dataset.state = age === Infinity ? "unknown" : age > warn ? "stale" : "fresh";
this.textContent = ageText(age);
}
},
);
}
const JUMP_MS = 500;
class Clock {
constructor(steady = () => performance.now(), wall = () => Date.now()) {
this._steady = steady;
this._wall = wall;
this._slept = 0;
this._lead = wall() - steady();
this._jumped = false;
}
now() {
const steady = this._steady();
const jump = this._wall() - steady - this._lead;
if (jump > JUMP_MS) {
this._slept += jump;
this._jumped = true;
}
if (Math.abs(jump) > JUMP_MS) this._lead += jump;
return (steady + this._slept) / 1000;
}
jumped() {
this.now();
const jumped = this._jumped;
this._jumped = false;
return jumped;
}
}
function pack({ code, message, retryMs, current, position, why }) {
return { code, message, retryMs, current, position, why };
}
function unpack({ code, message, ...details }) {
return new SoftstateError(code, message, details);
}
class Inbox {
constructor(names, narrow = false) {
this.names = new Set(names);
this.narrow = narrow;
this._pending = new Map();
this._resets = 0;
this._resetCount = 0;
}
get size() {
return this._pending.size;
}
take() {
for (const [key, event] of this._pending) {
this._pending.delete(key);
if (event.type === "reset") this._resets -= 1;
return event;
}
}
tell(event) {
switch (event.type) {
case "change":
if (this._resets) this._pending.delete(event.topic);
this._pending.set(event.topic, event);
break;
case "reset":
this._reset(event);
break;
case "mode":
this._pending.delete("\0mode");
this._pending.set("\0mode", event);
break;
case "refused":
this._pending.set(`\0refused ${event.url}`, event);
break;
case "unreadable":
this._unreadable(event.topics);
break;
case "denied":
this._deny(event);
}
}
clear() {
this._pending.clear();
this._resets = 0;
}
_reset(reset) {
const before = [...this._pending];
this._pending.clear();
this._resets = 1;
let bare = "";
const dropBare = () => bare && this._pending.delete(bare) && (this._resets -= 1);
for (const [key, event] of before) {
if (event.type === "unreadable" || (event.type === "change" && !event.deleted)) continue;
if (event.type === "change") bare = "";
this._pending.set(key, event);
if (event.type !== "reset") continue;
dropBare();
this._resets += 1;
bare = key;
}
dropBare();
this._pending.set(`\0reset ${++this._resetCount}`, reset);
}
_unreadable(topics) {
const pending = this._pending.get("\0damaged");
const before = pending?.type === "unreadable" ? pending.topics : [];
const mine = topics.filter((topic) => [topic, ...reaching(topic)].some((name) => this.names.has(name)));
if (!mine.length) return;
this._pending.set("\0damaged", { type: "unreadable", topics: [...new Set([...before, ...mine])] });
}
_deny({ names, below, silent }) {
const refused = names.filter((name) => this.names.delete(name));
if (this.narrow) for (const name of below) this.names.add(name);
for (const [key, event] of [...this._pending]) {
if (event.type === "change" && !covered(this.names, event.topic)) this._pending.delete(key);
}
const pending = this._pending.get("\0denied");
const before = pending?.type === "denied" ? pending : { names: [], below: [], silent };
const told = { names: [...before.names, ...refused], below: [...before.below, ...below] };
silent &&= before.silent;
if (refused.length) this._pending.set("\0denied", { type: "denied", ...told, silent });
}
}
const NAMES_SHOWN = 10;
const listed = (names) =>
names.slice(0, NAMES_SHOWN).map((name) => `'${name}'`).join(", ") + (names.length > NAMES_SHOWN ? " and more" : "");
class Updates extends EventTarget {
constructor(names, narrow, now, close) {
super();
this._inbox = new Inbox(names, narrow);
this._now = now;
this._close = close;
this._values = new Map();
this._asof = -Infinity;
this._denied = [];
this._resetCount = 0;
this._unreadable = [];
this._denial = null;
this._end = null;
this._closed = false;
this._waiting = [];
}
get names() {
return [...this._inbox.names];
}
get denied() {
return [...this._denied];
}
get resetCount() {
return this._resetCount;
}
get unreadable() {
return [...this._unreadable];
}
get age() {
return this._now() - this._asof;
}
get(topic) {
return this._values.get(topic);
}
snapshot() {
return new Map(this._values);
}
async fresh(maxAge = Number.MAX_VALUE) {
while (!(this.age <= maxAge)) {
this._throwIfOver();
if (this._closed) throw new SoftstateError("client_closed", "this subscription was closed");
await this._wait();
}
}
close() {
if (this._closed) return;
this._closed = true;
this._inbox.clear();
this._close();
this._wake();
}
[Symbol.asyncIterator]() {
return {
next: () => this._next(),
return: async () => ({ done:  (true), value: undefined }),
};
}
async _next() {
for (;;) {
this._throwDenial();
const event = this._inbox.take();
if (event?.type === "change") {
const { type: _, ...value } = event;
return { done: false, value };
}
if (event) continue;
if (this._closed) return { done: true, value: undefined };
this._throwIfOver();
await this._wait();
}
}
feed(events, asof, unreadable) {
for (const event of events) this._note(event);
this._unreadable = unreadable;
const younger = asof !== null && asof > this._asof;
if (asof === -Infinity || younger) this._asof =  (asof);
this._wake();
for (const event of events) this._dispatch(event);
if (younger) this.dispatchEvent(new Event("age"));
}
end(error) {
this._end ??= error;
this._wake();
this.dispatchEvent(new CustomEvent("error", { detail: error }));
}
_note(event) {
this._inbox.tell(event);
if (event.type === "change") {
const { type: _, ...change } = event;
if (change.deleted) this._values.delete(change.topic);
else this._values.set(change.topic, change);
} else if (event.type === "reset") {
this._resetCount += 1;
this._asof = -Infinity;
} else if (event.type === "denied") {
this._asof = -Infinity;
this._denied.push(...event.names);
for (const topic of [...this._values.keys()]) {
if (!covered(this._inbox.names, topic)) this._values.delete(topic);
}
if (!event.silent) this._denial = this._deniedError(event.below);
}
}
_deniedError(below) {
const instead = below.length ? `; you may read ${listed(below)}: subscribe to that` : "";
const text = `the node refuses these names, or they exceed its limits: ${listed(this._denied)}${instead}`;
return new SoftstateError("denied", text);
}
_dispatch(event) {
const { type, ...detail } = event;
if (type === "denied" && event.silent) return;
const told = "error" in detail ? { ...detail, error: unpack(detail.error) } : detail;
this.dispatchEvent(new CustomEvent(type, { detail: told }));
}
_throwDenial() {
const denial = this._denial;
if (!denial) return;
if (this._inbox.names.size) this._denial = null;
throw denial;
}
_throwIfOver() {
this._throwDenial();
if (this._end) throw this._end;
}
_wait() {
return new Promise((resolve) => this._waiting.push(() => resolve(undefined)));
}
_wake() {
for (const resume of this._waiting.splice(0)) resume();
}
}
const RATE = 0.98;
const KEY_CHARS_MAX = 128;
const TOKEN = /^[\x20-\x7e]{1,8192}$/;
function checkExpect(expect) {
if (expect === undefined || (Number.isSafeInteger(expect) &&  (expect) >= 0)) return;
throw new SoftstateError("invalid", `expect must be a version, an integer of at least 0, not ${String(expect)}`);
}
function checkKey(key) {
if (key === undefined || (typeof key === "string" && key.length > 0 && key.length <= KEY_CHARS_MAX)) return;
throw new SoftstateError("invalid", `key must be text of 1 to ${KEY_CHARS_MAX} characters`);
}
class Client extends EventTarget {
constructor(options, provider, maxAge, clock = new Clock()) {
super();
this._options = options;
this._provider = provider;
this._maxAge = maxAge;
this._clock = clock;
this._port = null;
this._unsent = [];
this._handles = new Map();
this._publishes = new Map();
this._numbers = 0;
this._sent = new Map();
this._lock = "";
this._mode = "connecting";
this._position = null;
this._because = "";
this._lastError = null;
this._end = null;
this.onclose = () => {};
}
get mode() {
return this._mode;
}
get position() {
return this._position;
}
get lastError() {
return this._lastError;
}
get because() {
return this._because;
}
subscribe(...names) {
const last = names[names.length - 1];
const { narrow = false } = typeof last === "object" && last !== null ? last : {};
const wanted = (typeof last === "string" ? names : names.slice(0, -1)).map((name) => checkName(name, "a name", true));
if (!wanted.length) throw new SoftstateError("invalid", "subscribe needs at least one topic or prefix");
if (this._end) throw this._end;
const id = ++this._numbers;
const close = () => {
this._handles.delete(id);
this._post({ type: "unsubscribe", id });
};
const updates = new Updates(wanted, narrow, () => this._clock.now(), close);
this._handles.set(id, updates);
this._post({ type: "subscribe", id, names: wanted, narrow });
return updates;
}
read(topic, { maxAge = this._maxAge } = {}) {
checkName(topic, "topic");
const now = this._clock.now();
let best = null;
for (const updates of this._handles.values()) {
if (!covered(new Set(updates.names), topic) || updates.unreadable.includes(topic)) continue;
if (!best || updates.age < best.age) best = updates;
}
const age = best ? best.age : Infinity;
if (best && age <= maxAge) return { value: best.get(topic)?.value, version: best.get(topic)?.version ?? 0, age };
const known = age < Infinity ? `what is known of it may be ${(now - (now - age)).toFixed(1)} s old` : "nothing proves it";
const what = best ? known : "no subscription covers it: subscribe to it";
const error = new SoftstateError("stale", `'${topic}' is not known as of the last ${maxAge} s: ${what}`);
error.age = age;
throw error;
}
async publish(topic, value, options = {}) {
if (value === undefined) throw new SoftstateError("invalid", "value is undefined: publish null, or delete the topic");
return this._publish(topic, value, false, options);
}
async delete(topic, options = {}) {
return this._publish(topic, null, true, options);
}
_publish(topic, value, deleted, { expect, key }) {
checkName(topic, "topic");
checkExpect(expect);
checkKey(key);
if (this._end) throw this._end;
const ticket = ++this._numbers;
return new Promise((resolve, reject) => {
this._publishes.set(ticket, { resolve, reject });
try {
this._post({ type: "publish", ticket, topic, value, deleted, expect: expect ?? null, key: key ?? null });
} catch (error) {
this._publishes.delete(ticket);
reject(new SoftstateError("invalid", `value cannot be published: ${/** @type {Error} */ (error).message}`));
}
});
}
close() {
if (this._mode === "closed") return;
this._post({ type: "close" });
this._over("closed", new SoftstateError("client_closed", "the client was closed; what it had sent may be applied"));
this.onclose();
}
attach(port, lock) {
this._port = port;
this._lock = lock;
const unsent = this._unsent.splice(0);
port.onmessage = ( { data }) => this._read(data);
this._open();
for (const message of unsent) port.postMessage(message);
}
tell(type) {
this._port?.postMessage({ type });
}
_open() {
this._sent.clear();
this._sent.set(0, this._clock.now());
this._port.postMessage({ type: "open", options: this._options, lock: this._lock, provider: !!this._provider });
}
_post(message) {
if (this._port) this._port.postMessage(message);
else this._unsent.push(message);
}
_read(message) {
if (this._end) return;
switch (message.type) {
case "update":
return this._update(message);
case "outcome": {
const waits = this._publishes.get(message.ticket);
this._publishes.delete(message.ticket);
if (message.error) waits?.reject(unpack(message.error));
else waits?.resolve(message.version);
return;
}
case "token":
return void this._giveToken(message);
case "stopped":
return this._over("stopped", unpack(message.error));
case "gone":
return this._again();
}
}
_again() {
this._lock = "";
this._open();
for (const [id, updates] of this._handles) {
this._post({ type: "subscribe", id, names: updates.names, narrow: updates._inbox.narrow });
}
const text = "this page was frozen while it was in flight: it may have been applied; read the topic";
for (const { reject } of this._publishes.values()) reject(new SoftstateError("outcome_unknown", text));
this._publishes.clear();
}
_update({ seq, anchor: [anchorSeq, anchorClock], clock, mode, position, error, because, handles }) {
const now = this._clock.now();
const sent = this._sent.get(anchorSeq);
for (const each of this._sent.keys()) if (each < anchorSeq) this._sent.delete(each);
this._sent.set(seq, now);
this._position = position;
this._because = because;
this._lastError = error && unpack(error);
this._setMode(mode);
const passed = clock - anchorClock;
const reading = sent === undefined ? -Infinity : sent + (passed >= 0 ? RATE * passed : passed);
for (const { id, events, age, unreadable } of handles) {
const updates = this._handles.get(id);
if (!updates) continue;
const asof = age === null ? null : reading - age;
updates.feed(events, asof !== null && asof > now ? null : asof, unreadable);
}
this._port.postMessage({ type: "ack", seq });
}
_setMode(mode) {
if (mode === this._mode) return;
this._mode = mode;
this.dispatchEvent(new CustomEvent("mode", { detail: mode }));
}
_over(mode, error) {
this._end = error;
for (const updates of this._handles.values()) updates.end(error);
for (const { reject } of this._publishes.values()) reject(error);
this._publishes.clear();
this._setMode(mode);
if (mode === "stopped") this.dispatchEvent(new CustomEvent("error", { detail: error }));
}
async _giveToken({ number, rejected, attempt }) {
const answer = ( fields) => this._port.postMessage({ type: "token", number, ...fields });
const failed = ( text) => answer({ error: pack(new SoftstateError("unavailable", text)) });
try {
const token = await this._provider?.({ rejected, attempt });
if (token == null) {
const none = new SoftstateError("denied", "the token function gives no token any more");
answer({ error: pack(none), final: true });
} else if (typeof token === "string" && TOKEN.test(token)) {
answer({ token });
} else {
failed("the token function gave no token: that is text of 1 to 8192 printable ASCII characters");
}
} catch (error) {
failed(`the token function failed: ${/** @type {Error} */ (error)?.name}`);
}
}
}
const NAME_CHARS_MAX = 128;
const DURATION_MS_MAX = 7 * 24 * 3_600_000;
const READY_MS = 5000;
const BEAT_MS = 1000;
const page =  (globalThis);
const wrong = (text) => new SoftstateError("invalid", text);
function nodeUrl(text) {
if (typeof text !== "string" && !(text instanceof URL)) throw wrong("urls must be text, or a list of texts");
const url = URL.canParse(text, page.location?.href) ? new URL(text, page.location?.href) : null;
if (!url || !/^(ws|http)s?:$/.test(url.protocol)) throw wrong(`'${text}' must begin with ws://, wss://, http:// or https://`);
if (url.username || url.password) throw wrong(`the URL of '${url.host}' must not hold credentials: give them as token`);
if (url.search || url.hash) throw wrong(`'${text}' must not have a query or a fragment`);
const path = url.pathname.replace(/\/+$/, "");
if (/(^|\/)v1(\/ws)?$/.test(path)) throw wrong(`'${text}' must be the base URL of the node: leave out the part from /v1 on`);
return `${url.protocol.replace("http", "ws")}//${url.host}${path}`;
}
function check({ maxAge, token, name, push, ttlMs, worker, principal }) {
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
}
function connect(urls, options = {}) {
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
void place(client, settings, principal, options);
return client;
}
async function place(client, settings, principal, { worker = "shared", workerUrl, WebSocket, fetch }) {
const url = new URL(workerUrl ?? "./softstate-worker.js", import.meta.url);
const own = page.location && url.origin === page.location.origin;
const { lock, release } = holdLock();
let port = null;
let shared = false;
if (worker === "shared" && own && page.SharedWorker) {
const key = sha256(utf8(JSON.stringify([settings, principal]))).join();
port = await ready(() => new SharedWorker(url, { type: "module", name: `softstate ${key}` }), (each) => each.port);
shared = !!port;
}
if (!port && worker !== "page" && page.Worker && page.document) port = await ready(() => dedicated(url, own), (each) => each);
let stop = () => {};
if (port) {
stop = () => port.terminate?.();
} else {
const { Engine } = await import( url.href);
const [one, other] = pair();
new Engine({ WebSocket, fetch }).attach(other);
port = one;
}
const leave = listen(client, shared);
client.onclose = () => {
clients.splice(clients.indexOf(client), 1);
leave();
release();
setTimeout(stop, 1000);
};
client.attach(port, shared ? lock : "");
if (client.mode === "closed") client.onclose();
}
function dedicated(url, own) {
if (own) return new Worker(url, { type: "module" });
const text = `import ${JSON.stringify(url.href)};`;
return new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })), { type: "module" });
}
function ready(start, portOf) {
return new Promise((resolve) => {
try {
const worker = start();
const port = portOf(worker);
worker.onerror = () => resolve(null);
setTimeout(() => resolve(null), READY_MS);
port.onmessage = () => resolve(port);
} catch {
resolve(null);
}
});
}
function pair() {
const ends = [0, 1].map((at) => ({
onmessage: null,
postMessage: (data) => queueMicrotask(() => ends[1 - at].onmessage?.({ data })),
}));
return ends;
}
function holdLock() {
const name = `softstate ${Array.from(crypto.getRandomValues(new Uint32Array(4))).join()}`;
let release = () => {};
const held = new Promise((resolve) => (release = () => resolve(undefined)));
const { locks } = page.navigator ?? {};
if (!locks || !page.document) return { lock: "", release };
void locks.request(name, () => held);
return { lock: name, release };
}
function listen(client, shared) {
if (!page.document) return () => {};
const jumped = () => client.tell("jumped");
const heard = [
[page, "online", () => client.tell("online")],
[page, "pageshow", (event) => event.persisted && jumped()],
[page.document, "resume", jumped],
[page.document, "visibilitychange", () => !shared && page.document.visibilityState === "visible" && jumped()],
[page, "pagehide", (event) => !event.persisted && client.tell("close")],
];
for (const [target, type, listener] of heard) target.addEventListener(type, listener);
return () => {
for (const [target, type, listener] of heard) target.removeEventListener(type, listener);
};
}
defineAge();
export { Client, SoftstateError, Updates, connect };
