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
const DEPTH_MAX = 32;
const MARK = `\u{e000}${Math.random().toString(36).slice(2)}:`;
const MARKED = new RegExp(`"${MARK}([^"]*)"`, "g");
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;
function parse(text) {
const long = /\d{16}/.test(text);
if (long) {
text = text.replace(TOKEN, (token) =>
/^-?\d{16,}$/.test(token) && !Number.isSafeInteger(+token) ? `"${MARK}${token}"` : token,
);
}
return long || text.includes('"$bytes"') || text.includes("\\u") ? JSON.parse(text, revive) : JSON.parse(text);
}
function revive(_, value) {
if (typeof value === "string") return value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value;
if (typeof value !== "object" || value === null || typeof value.$bytes !== "string") return value;
return Object.keys(value).length === 1 ? Uint8Array.from(atob(value.$bytes), (char) => char.charCodeAt(0)) : value;
}
function stringify(value) {
let marked = false;
const text = JSON.stringify(value, (_, item) => {
if (item instanceof Uint8Array) return { $bytes: btoa(String.fromCharCode(...item)) };
const unsafe = typeof item === "number" && Number.isInteger(item) && !Number.isSafeInteger(item);
if (typeof item !== "bigint" && !unsafe) return item;
marked = true;
return MARK + (unsafe ? item.toExponential() : item);
});
return marked ? text.replace(MARKED, "$1") : text;
}
const head = (size) => (size < 24 ? 1 : size < 256 ? 2 : size < 65_536 ? 3 : size < 2 ** 32 ? 5 : 9);
function sizeOf(value, at = "value", depth = 0) {
const wrong = ( why) => new SoftstateError("invalid", `${at} ${why}`);
if (value === null || typeof value === "boolean") return 1;
if (typeof value === "number") {
if (!Number.isFinite(value)) throw wrong(`is ${value}: publish a finite number, or null`);
return Number.isSafeInteger(value) ? head(Math.abs(value)) : 9;
}
if (typeof value === "bigint") {
if (BigInt.asIntN(64, value) !== value) throw wrong("is an integer of more than 64 bits: publish it as text");
return head(Math.abs(Number(value)));
}
if (typeof value === "string") {
if (/\p{Surrogate}/u.test(value)) throw wrong("is not valid Unicode (it holds a lone surrogate)");
const { length } = utf8(value);
return head(length) + length;
}
if (value instanceof Uint8Array) return head(value.length) + value.length;
const plain = typeof value === "object" && [Object.prototype, null].includes(Object.getPrototypeOf(value));
if (!Array.isArray(value) && !plain) {
throw wrong("cannot be published: use null, booleans, numbers, BigInt, text, Uint8Array, lists and plain objects");
}
if (depth >= DEPTH_MAX) throw wrong(`is nested deeper than ${DEPTH_MAX} levels`);
if (Array.isArray(value)) {
return value.reduce((sum, item, i) => sum + sizeOf(item, `${at}[${i}]`, depth + 1), head(value.length));
}
const entries = Object.entries(value);
if (entries.length === 1 && entries[0][0] === "$bytes") throw wrong("has only the key '$bytes', which stands for bytes");
return entries.reduce(
(sum, [key, item]) => sum + sizeOf(key, `a key of ${at}`) + sizeOf(item, `${at}.${key}`, depth + 1),
head(entries.length),
);
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
const JITTER = 0.2;
const DOUBLINGS_MAX = 30;
const BARRED_CAPS = 10;
const RETRY_S_MAX = 3600;
const POLL_S_MIN = 0.05;
const BACKOFF_BASE_S_MIN = 0.02;
const BACKOFF_CAP_S_MIN = 0.2;
const RENEW_S_MIN = 0.2;
const TIMEOUT_S_MIN = 0.1;
const LEASE_S_MIN = 5;
class Random {
constructor(draw, publisher) {
this.draw = draw;
this.publisher = publisher;
}
uniform(from, to) {
return from + (to - from) * this.draw();
}
}
class Advice {
constructor(pollEvery = 15, pollSpread = 1, recoverSpread = 1, base = 0.5, cap = 30) {
this.pollEvery = pollEvery;
this.pollSpread = pollSpread;
this.recoverSpread = recoverSpread;
this.base = base;
this.cap = cap;
}
static of(poll, recover) {
return new Advice(
Math.max(asked(poll.every_ms), POLL_S_MIN),
asked(poll.spread_ms),
asked(recover.spread_ms),
Math.max(asked(recover.base_ms), BACKOFF_BASE_S_MIN),
Math.max(asked(recover.cap_ms), BACKOFF_CAP_S_MIN),
);
}
pause(random, tries, spread = 0) {
const bound = Math.min(this.cap, this.base * 2 ** Math.min(tries, DOUBLINGS_MAX));
return random.uniform(0, Math.max(bound, spread));
}
}
function jittered(random, period) {
return period * random.uniform(1 - JITTER, 1 + JITTER);
}
function asked(ms) {
return Math.min((ms || 0) / 1000, RETRY_S_MAX);
}
class Rotation {
constructor(urls, random, doors = null) {
this._urls = urls;
this._random = random;
this._doors = doors;
this._at = 0;
this._tried = new Set();
this._rounds = 0;
this._until = new Map();
this._barred = new Set();
this.notBefore = -Infinity;
this.roundOver = false;
}
get url() {
return this._urls[this._at];
}
get left() {
return Math.max(new Set(this._usable.filter((url) => !this._tried.has(url))).size, 1);
}
get fresh() {
return !this._tried.size;
}
beginAt(url) {
if (!this._barred.has(url)) this._at = this._urls.indexOf(url);
}
succeeded() {
this._tried.clear();
this._rounds = 0;
}
failed(url, now, advice, retry = 0, spread = 0) {
this._tried.add(url);
this._until.set(url, retry > 0 ? now + (retry + advice.pause(this._random, this._rounds, spread)) : now);
const waiting = this._usable.filter((other) => !this._tried.has(other) && this.freeAt(other) <= now);
this.roundOver = !waiting.length;
if (waiting.length) {
while (!waiting.includes(this.url)) this._advance();
return now;
}
if (this.url === url) this._advance();
const earliest = now + advice.pause(this._random, this._rounds, spread);
this._tried.clear();
this._rounds += 1;
const asked = Math.min(...this._usable.map((other) => this._until.get(other) ?? now));
return this.probeAt ?? Math.max(earliest, asked);
}
freeAt(url) {
const allowed = this._doors ? this._doors.allowedAt(url) : -Infinity;
return Math.max(this.notBefore, allowed, this._until.get(url) ?? -Infinity);
}
get probeAt() {
const doors = this._doors;
if (!doors || !this._usable.every((url) => doors.refuses(url))) return null;
return Math.min(...this._usable.map((url) => this.freeAt(url)));
}
choose(now) {
for (let count = this._urls.length; count > 0; count--) {
if (this.freeAt(this.url) <= now) return now;
this._advance();
}
return Math.min(...this._usable.map((url) => this.freeAt(url)));
}
heed(other) {
for (const [url, until] of other._until) this._until.set(url, Math.max(until, this._until.get(url) ?? until));
}
passOver() {
this._advance();
}
bar(url, now, advice) {
this._barred.add(url);
this.roundOver = !this._usable.length;
if (this.roundOver) {
this._barred.clear();
this._tried.clear();
this.notBefore = now + jittered(this._random, BARRED_CAPS * advice.cap);
return this.notBefore;
}
if (this.url === url) this._advance();
return now;
}
get _usable() {
return this._urls.filter((url) => !this._barred.has(url));
}
_advance() {
do {
this._at = (this._at + 1) % this._urls.length;
} while (this._barred.has(this.url));
}
}
const HTTP_PUBLISH_AFTER_S = 1;
const WORTH = 0.5;
const CLOSED_UNSENT = "the client was closed while this publish was waiting: it was not applied";
const CLOSED_SENT = "the client was closed while this publish was in flight: it may have been applied";
const ACTIONS = {
connect({ core, push, publishes }) {
publishes.waitUntil = core.now + HTTP_PUBLISH_AFTER_S;
push.connectAt = core.now;
},
reconnect_spread({ core, push }) {
if (core.options.push) push.reconnect(core.advice.recoverSpread);
},
reconnect_after_bye({ core, push }, { retry = 0, spread = 0 }) {
push.rotation.notBefore = core.now + retry;
push.reconnect(spread);
},
back_off({ core, push }, cause) {
push.backOff(cause);
core.pathFailed(push.rotation);
},
reset_backoff({ push }) {
push.rotation.succeeded();
},
leave({ push }) {
push.leave();
},
say_goodbye({ push }) {
push.sayGoodbye();
},
subscribe_all({ push }) {
push.subscribeAll();
},
subscribe_new({ push }) {
push.subscribeNew();
},
renew_resumed({ push }) {
push.renewResumed();
},
renew_once_more({ push }) {
push.renewOnceMore();
},
renew_later({ push }) {
push.renewLater();
},
await_lease({ push }, { retry = 0, spread = 0 }) {
push.awaitLease(retry, spread);
},
fetch_token({ core }) {
core.credentials.fetch();
},
hold_paths({ core, poll }) {
core.credentials.held = true;
poll.abandon();
},
release_paths(parts, cause) {
const { core, push } = parts;
if (!core.credentials.held) return;
core.credentials.held = false;
if (core.options.push && !push.connection) push.connectAt = core.now;
if (core.mode === "connecting") ACTIONS.poll_early(parts, cause);
else ACTIONS.poll_now(parts, cause);
},
leave_refused({ push }) {
if (!push.awaitsCredentials) push.leave();
},
await_credentials({ push }) {
push.awaitCredentials();
},
present_token({ push }) {
push.presentToken();
},
poll_now({ core, poll }) {
poll.schedule(core.now);
},
poll_reset({ core, poll }) {
const tries = core.knowledge.resets - 2;
poll.schedule(core.now + (tries >= 0 ? core.advice.pause(core.random, tries, core.advice.pollSpread) : 0));
},
poll_soon({ core, poll }) {
poll.schedule(core.spread(core.advice.pollSpread));
},
poll_early({ core, poll }) {
poll.schedule(core.now + core.patience());
},
poll_before_connecting({ core, push, poll }) {
const due = push.connectAt;
const late = !core.options.push || due - core.now > WORTH * core.answerTime;
poll.schedule(late ? core.spread(core.advice.pollSpread) : due + core.patience());
},
avoid_connected({ push, poll }) {
if (push.connection) poll.avoid(push.connection.url);
},
poll_uncertain({ push }, { names = [], version = 0 }) {
push.pollUncertain(names, version);
},
stop_polling({ poll }) {
poll.stop();
},
share_retry_budget({ retries }) {
retries.share();
},
resume_paths({ retries }) {
retries.resumePaths();
},
reset({ core, push, poll }, cause) {
const position =  (cause.position);
core.knowledge.reset(position);
poll.abandon();
push.rebase(position);
core.count("resets");
core.act({ do: "reset", position });
},
stop(parts, cause) {
const error =  (cause.error);
parts.core.stoppedBy = error;
end(parts, error);
parts.core.act({ do: "stopped", error });
},
settle_closed(parts) {
parts.core.stoppedBy = null;
end(parts, new SoftstateError("client_closed", CLOSED_UNSENT), new SoftstateError("client_closed", CLOSED_SENT));
},
};
function end({ core, push, publishes }, error, ifSent = null) {
push.connectAt = Infinity;
publishes.stop();
core.failures = 0;
core.act(...core.queue.settleAll(error, ifSent));
}
const NAMES_MAX = 1000;
const NAMES_BYTES_MAX = 64 * 1024;
const BATCH_BYTES_MAX = 256 * 1024;
const VALUE_BYTES_MAX = 512 * 1024;
const HEAD_BYTES = 256;
const HEAD_ITEMS = 16;
const CURSOR_BYTES = 6 * 128;
const count = (text, pattern) => text.match(pattern)?.length ?? 0;
function textBytes(text) {
return utf8(text).length + count(text, /["\\]/g) + 5 * count(text, /[\x00-\x1f\x7f]/g) + 5;
}
class Portions {
constructor(limits = null) {
const told = limits?.message_bytes;
this.names = limits
? Math.max(Math.min(NAMES_MAX, limits.subscriptions, limits.message_items - HEAD_ITEMS), 1)
: NAMES_MAX;
this.messageBytes = told ?? NAMES_BYTES_MAX;
this.batchBytes = told ?? BATCH_BYTES_MAX;
this.valueBytes = limits?.value_bytes ?? VALUE_BYTES_MAX;
this.publishBytes = told ?? null;
}
cut(names, position, most = NAMES_MAX) {
let room = this.messageBytes - HEAD_BYTES - CURSOR_BYTES;
if (position) room -= textBytes(position.epoch) + textBytes(position.lineage);
most = Math.min(this.names, most);
const portions = [];
let left = 0;
for (const name of names) {
const size = utf8(name).length + count(name, /["\\]/g) + 24;
if (!portions.length || size > left || portions[portions.length - 1].length >= most) {
portions.push([]);
left = room;
}
portions[portions.length - 1].push(name);
left -= size;
}
return portions;
}
}
const OPTIONS = {
urls:  ([]),
push: true,
name: "",
token:  (null),
provider: false,
ttl_ms:  (null),
beat_ms:  (1000),
connect_timeout_s: 5,
hello_timeout_s: 5,
poll_timeout_s: 10,
advice: new Advice(),
offline_after: 3,
publishes_waiting_max: 10_000,
inflight_max: 128,
};
const EARLY = 0.25;
const REFUSALS_MAX = 256;
const NO_NAMES =  ({});
const FOREIGN = "foreign";
function bars(error) {
return error?.code === "denied" && ["host", "origin", FOREIGN].includes(error.why ?? "");
}
function causeOf(message) {
return { retry: asked(message.retry_ms), error: errorOf(message) };
}
class Core {
constructor(options, random, knowledge, queue, credentials, reach) {
this.options = options;
this.random = random;
this.knowledge = knowledge;
this.queue = queue;
this.credentials = credentials;
this.reach = reach;
this.advice = options.advice;
this.fire = () => {};
this.pathFailed = () => {};
this.connectAt = () => Infinity;
this.reachChanged = () => {};
this.mode = "closed";
this.now = 0;
this.limits = null;
this.portions = new Portions();
this.timeout = Infinity;
this.out = [];
this.counts = {};
this.stoppedBy = null;
this.failures = 0;
this._number = 0;
this.answeredUrl = null;
this.lastError = null;
this._refusals = new Set();
this.narrowing = new Set();
this.narrowed = [];
}
get pollTimeout() {
return Math.min(this.options.poll_timeout_s, this.timeout);
}
get answerTime() {
return Math.min(this.timeout, this.options.hello_timeout_s);
}
patience() {
return jittered(this.random, EARLY * this.answerTime);
}
number() {
return ++this._number;
}
count(name, by = 1) {
this.counts[name] = (this.counts[name] ?? 0) + by;
}
act(...actions) {
this.out.push(...actions);
}
deliver(changes) {
if (changes.length) this.act({ do: "deliver", changes });
}
takePage(question, message) {
const { changes, unreadable } = message;
const { revision } = message.position;
this.deliver(this.knowledge.applyPage(question, changes, revision));
const before = question.unreadable.size;
if (unreadable.length) {
const topics = this.knowledge.applyUnreadable(question, unreadable, revision);
if (topics.length) this.act({ do: "topics_unreadable", topics });
}
let newest = 0;
for (const change of changes) newest = Math.max(newest, change.version);
question.notePage(this.now, newest, question.unreadable.size > before);
}
deny(names, narrow = NO_NAMES) {
const held = this.knowledge.subscriptions;
const below = names
.filter((name) => held.has(name) && this.narrowing.has(name))
.flatMap((name) => (Object.hasOwn(narrow, name) ? narrow[name] : []));
this.narrowed.push(...this.knowledge.add(below));
this.narrowing = new Set([...this.narrowing, ...below]);
const denied = this.knowledge.remove(names);
if (denied.length) this.act({ do: "names_denied", names: denied, narrow });
return denied;
}
refused(url, error) {
this.lastError = error;
if (this._refusals.size >= REFUSALS_MAX) this._refusals.clear();
const reason = `${url} ${error.message}`;
if (this._refusals.has(reason)) return;
this._refusals.add(reason);
this.act({ do: "node_refused", url, error });
}
mistrusted(url, error) {
if (error?.why === "certificate") this.refused(url, error);
}
refusedDial(url, planned = Infinity, placed = false) {
const advice = this.advice;
if (this.now < planned && planned <= this.now + advice.recoverSpread && !this.reach.refuses(url)) {
this.reach.wait(url, this.now, planned);
} else {
const spread = this.options.push ? advice.recoverSpread : advice.pollSpread;
this.reach.refused(url, this.now, advice, spread, placed);
}
this.reachChanged();
}
reached(url) {
if (this.reach.reached(url)) this.reachChanged();
}
unauthenticated(token, error, url) {
const { credentials } = this;
if (!credentials.provider) {
this.fire("FORBIDDEN", { error });
} else if (!credentials.isPresent(token)) {
return true;
} else {
this.fire(this.tokenRefused(token, error, url) ? "CREDENTIALS_REFUSED" : "TOKEN_FINAL", { error });
}
return false;
}
tokenRefused(token, error, url) {
const { fresh } = this.credentials;
const hope = this.credentials.refused(token, error);
if (hope && fresh) this.refused(url, error);
return hope;
}
spread(span) {
return this.now + this.random.uniform(0, span);
}
limit(limits) {
this.limits = limits;
this.portions = new Portions(limits);
this.queue.limit(this.portions);
}
cut(names, most = NAMES_MAX) {
return this.portions.cut(names, this.knowledge.position, most);
}
}
const REFRESH_FROM = 0.7;
const REFRESH_UPTO = 0.85;
const LAST_S = 1;
const CREDENTIALS_MARGIN = 0.99;
const FETCH_BASE_S = 1;
const FETCH_CAP_S = 60;
const REFUSED_MAX = 3;
const MENDED_BY_WAITING = ["expired", "not_yet", "unknown_key", "revoked"];
class Credentials {
constructor(cell, random, provider) {
this.cell = cell;
this.provider = provider;
this.held = false;
this.core =  (null);
this._random = random;
this._fetching = null;
this._fetchAt = Infinity;
this._dueAt = Infinity;
this._endsAt = Infinity;
this._attempts = 0;
this._taken = null;
this._refused = null;
this._why = null;
this._refusals = 0;
}
deadline() {
return this._fetching !== null || !this.provider ? Infinity : Math.min(this._fetchAt, this._dueAt);
}
tick() {
if (this.core.now < this.deadline()) return;
if (this._dueAt <= this.core.now) {
this._dueAt = Infinity;
this.core.fire("CREDENTIALS_DUE");
} else {
this.fetch();
}
}
told(token, ms, sent) {
if (!this.provider || token !== this.cell.token) return;
if (token !== this._taken) {
this._taken = token;
this._refused = this._why = null;
this._refusals = this._attempts = 0;
}
if (ms == null) return;
const left = ms / 1000;
const endsAt = sent + CREDENTIALS_MARGIN * left;
if (endsAt < this._endsAt - 1) {
this._endsAt = endsAt;
const usable = Math.max(left - LAST_S, left / 2);
this._dueAt = sent + usable * this._random.uniform(REFRESH_FROM, REFRESH_UPTO);
}
}
begin() {
if (!this.provider || this.cell.token !== null) return;
this.held = true;
this.fetch();
}
fetch() {
const { now } = this.core;
if (!this.provider || this._fetching !== null || (now < this._fetchAt && this._fetchAt < Infinity)) return;
this._fetchAt = Infinity;
this._fetching = this.core.number();
this.core.act({ do: "fetch_token", number: this._fetching, rejected: this._why, attempt: this._attempts });
this._attempts += 1;
}
got(number, token) {
if (number !== this._fetching) return false;
this._fetching = null;
if (token === this._refused) {
this._again(new SoftstateError("unavailable", "the token provider gave the token once more that was refused"));
return false;
}
this.cell.token = token;
this._dueAt = this._endsAt = Infinity;
return true;
}
failed(number, error) {
if (number !== this._fetching) return;
this._fetching = null;
this._again(error);
}
postpone(error) {
if (this._fetching !== null || this._fetchAt !== Infinity) return;
this._attempts += 1;
this._again(error);
}
_again(error) {
this.core.lastError = error;
const bound = Math.min(FETCH_CAP_S, FETCH_BASE_S * 2 ** Math.min(Math.max(this._attempts - 1, 0), 16));
this._fetchAt = this.core.now + this._random.uniform(0, bound);
}
isPresent(token) {
return token === this.cell.token;
}
get fresh() {
return this._attempts > 0;
}
refused(token, error) {
this.core.lastError = error;
if (token !== null && token === this._refused) return true;
this._refused = token;
this._why = error.why || "unauthenticated";
if (!MENDED_BY_WAITING.includes(this._why) && token !== null) this._refusals += 1;
if (this._refusals >= REFUSED_MAX) return false;
this._dueAt = Infinity;
if (this.fresh && this._fetching === null && this._fetchAt === Infinity) this._again(error);
return true;
}
}
class Certificate {
constructor(name, added) {
this.name = name;
this.added = added;
this.revision = null;
this.asof = -Infinity;
this.lease = 0;
this.vouched = 0;
this.blocked = 0;
this.doubt = "";
}
get lists() {
return this.doubt === "history" || this.doubt === "listing";
}
get whole() {
return this.revision === null || this.lists;
}
answered(serial, lease, revision, asof) {
if (this.added >= serial) return false;
if (lease) this.lease = lease;
if (this.blocked >= serial) return false;
this.doubt = "";
this._certify(revision, asof);
if (lease) this.vouched = lease;
return true;
}
renewed(serial, lease, revision, asof) {
const renewable = this.doubt === "" || this.doubt === "listing";
if (this.lease === lease && this.added < serial && this.blocked < serial && renewable) {
this._certify(revision, asof);
this.vouched = lease;
}
}
beaten(lease, revision, asof) {
if (this.vouched !== lease) return false;
if (asof > this.asof) this.asof = asof;
if (this.revision !== null && revision <= this.revision) return false;
this.revision = revision;
return true;
}
doubted(serial) {
this.blocked = serial;
this.vouched = 0;
this.doubt = this.lists ? "history" : "change";
}
compacted(serial) {
this.asof = -Infinity;
this.blocked = serial;
this.vouched = 0;
this.doubt = "history";
}
resumed(serial, lease) {
this.lease = lease;
this.vouched = 0;
this.blocked = Math.max(this.blocked, serial - 1);
this.doubt = this.lists ? "listing" : "";
}
reset() {
this.revision = null;
this.asof = -Infinity;
this.vouched = 0;
this.doubt = "";
}
_certify(revision, asof) {
this.revision = this.revision === null ? revision : Math.max(this.revision, revision);
this.asof = Math.max(this.asof, asof);
}
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
function parentOf(name) {
return name.slice(0, name.slice(0, -1).lastIndexOf("/") + 1) || (name[0] === SPELT ? SPELT : ALL);
}
class KnownTopics {
constructor() {
this.states = new Map();
this._children = new Map();
}
keep(change) {
if (!this.states.has(change.topic)) this._enter(change.topic);
this.states.set(change.topic, change);
}
forget(topic) {
this.states.delete(topic);
for (let name = topic; ; ) {
const above = parentOf(name);
const siblings =  (this._children.get(above));
siblings.delete(name);
if (siblings.size) return;
this._children.delete(above);
if (above === ALL || above === SPELT) return;
name = above;
}
}
below(prefix, but = null) {
const found = [];
const levels = [(this._children.get(prefix) ?? new Set()).values()];
while (levels.length) {
const { value: name, done } = levels[levels.length - 1].next();
if (done) levels.pop();
else if (but?.has(name)) continue;
else if (isPrefix(name)) levels.push( (this._children.get(name)).values());
else found.push(name);
}
return found;
}
replace(changes) {
this.states.clear();
this._children.clear();
for (const change of changes) this.keep(change);
}
_enter(name) {
for (;;) {
const above = parentOf(name);
const siblings = this._children.get(above);
if (siblings) {
siblings.add(name);
return;
}
this._children.set(above, new Set([name]));
if (above === ALL || above === SPELT) return;
name = above;
}
}
}
const IDLE_PAGES_MAX = 1000;
class Question {
constructor(serial, sent, since, base, lease) {
this.serial = serial;
this.sent = sent;
this.since = since;
this.base = base;
this.lease = lease;
this.listed = new Set();
this.unreadable = new Set();
this.newest = 0;
this.idlePages = 0;
this.idleSince = Infinity;
}
get endless() {
return this.idlePages > IDLE_PAGES_MAX;
}
notePage(now, newest, damage) {
if (newest > this.newest || damage) {
this.idlePages = 0;
this.idleSince = Infinity;
} else {
this.idlePages += 1;
this.idleSince = Math.min(this.idleSince, now);
}
this.newest = Math.max(this.newest, newest);
}
get names() {
return sinceOf(this.since);
}
}
function sinceOf(since) {
const names = [...since];
const topics = names.filter(([name]) => !isPrefix(name));
const prefixes = names.filter(([name]) => isPrefix(name));
return {
...(topics.length && { topics: Object.fromEntries(topics) }),
...(prefixes.length && { prefixes: Object.fromEntries(prefixes) }),
};
}
function sameLineage(one, other) {
return !!one && !!other && one.lineage === other.lineage && one.epoch === other.epoch;
}
const CLOCK_RATE_MIN = 0.99;
const isNone = (topic) => !topic || isPrefix(topic);
class Knowledge {
constructor() {
this.subscriptions = new Map();
this.position = null;
this.lease = 0;
this.dropped = 0;
this.resets = 0;
this._known = new KnownTopics();
this._tombstones = new Map();
this._swept = new Set();
this._unreadable = new Map();
this._serial = 0;
this._resetSerial = 0;
this._digest = 0n;
}
add(names) {
const added = [];
for (const name of names) {
if (this.subscriptions.has(name)) continue;
this.subscriptions.set(name, new Certificate(name, this._serial));
this._digest += nameHash(name);
added.push(name);
}
return added;
}
remove(names) {
const removed = [];
for (const name of names) {
if (!this.subscriptions.delete(name)) continue;
this._digest -= nameHash(name);
removed.push(name);
}
for (const name of removed) {
const bare = name.replace(/\/+$/, "");
if (reaching(bare).some((prefix) => prefix !== name && this.subscriptions.has(prefix))) continue;
for (const topic of this._below(name, this.subscriptions)) this._forget(topic);
}
if (removed.length) {
for (const topic of [...this._unreadable.keys()]) {
if (!this._covering(topic).length) this._unreadable.delete(topic);
}
}
return removed;
}
get digest() {
return `${digestText(this._digest)} ${this.subscriptions.size}`;
}
age(now, names = null) {
let oldest = now;
let [leftOut, counted] = [false, false];
for (const name of names ?? this.subscriptions.keys()) {
if (this._unreadable.has(name)) {
leftOut = true;
continue;
}
counted = true;
oldest = Math.min(oldest, this.subscriptions.get(name)?.asof ?? -Infinity);
}
return leftOut && !counted ? Infinity : (now - oldest) / CLOCK_RATE_MIN;
}
unreadable(names = null) {
const topics = [...this._unreadable.keys()];
if (!names) return topics;
const wanted = new Set(names);
return topics.filter((topic) => [topic, ...reaching(topic)].some((name) => wanted.has(name)));
}
lowestRevision() {
let lowest = null;
for (const held of this.subscriptions.values()) {
if (held.revision === null || held.lists) return null;
lowest = lowest === null ? held.revision : Math.min(lowest, held.revision);
}
return lowest;
}
known(name) {
return this._below(name).map((topic) =>  (this._known.states.get(topic)));
}
nextSerial() {
return ++this._serial;
}
ask(names, now, lease = 0) {
const since = new Map();
for (const name of names) {
if (isPrefix(name)) {
const held =  (this.subscriptions.get(name));
since.set(name, held.lists ? 0 : (held.revision ?? 0));
} else {
since.set(name, this._swept.has(name) ? 0 : (this._known.states.get(name)?.version ?? 0));
}
}
return new Question(this.nextSerial(), now, since, this.position, lease);
}
beginLease() {
this.lease += 1;
}
resume(serial) {
for (const held of this.subscriptions.values()) held.resumed(serial, this.lease);
}
usable(latest, base) {
const own = this.position;
if (own === base || (sameLineage(own, base) && own?.revision === base?.revision)) return true;
return sameLineage(latest, own);
}
move(position) {
if (this.position && position.revision <= this.position.revision) return false;
this.position = position;
return true;
}
apply(change) {
const damage = this._unreadable.get(change.topic);
return this._apply(change, this._covering(change.topic), damage !== undefined && change.version > damage[0]);
}
applyPage(question, changes, revision) {
if (question.serial <= this._resetSerial) return [];
const fresh = [];
const above = new Map();
for (const change of changes) {
const topic = change.topic;
question.listed.add(topic);
const parent = topic.slice(0, topic.lastIndexOf("/") + 1);
let covering = above.get(parent);
if (!covering) above.set(parent, (covering = this._above(topic)));
const own = this.subscriptions.get(topic);
if (own) covering = [...covering, own];
if (this._apply(change, covering, this._later(question, topic, revision))) fresh.push(change);
}
return fresh;
}
applyUnreadable(question, topics, revision) {
if (question.serial <= this._resetSerial) return [];
const fresh = [];
for (const topic of topics) {
question.listed.add(topic);
const covering = this._covering(topic);
const known = this._known.states.get(topic);
if (isNone(topic) || !covering.length || (known && known.version > revision)) continue;
question.unreadable.add(topic);
const before = this._unreadable.get(topic);
if (!before) fresh.push(topic);
const knownTo = Math.max(...covering.map((held) => held.revision ?? 0));
const [last, serial, first, upTo] = before ?? [0, 0, revision, knownTo];
this._unreadable.set(topic, [Math.max(revision, last), Math.max(question.serial, serial), first, upTo]);
}
return fresh;
}
finish(question, revision, lag, compacted) {
if (question.serial <= this._resetSerial) return [];
const { serial, sent, lease } = question;
const certified = [...question.since.keys()].filter((name) =>
this.subscriptions.get(name)?.answered(serial, lease, revision, sent - lag),
);
if (this.resets && [...this.subscriptions.values()].every((held) => held.asof > -Infinity)) this.resets = 0;
const whole = certified.filter((name) => question.since.get(name) === 0 || compacted.includes(name));
this._heal(question, whole, revision);
const swept = this._sweep(question, whole, revision);
this._forgetTombstones();
return swept;
}
renewed(serial, sent, revision, lag) {
if (serial <= this._resetSerial) return;
for (const held of this.subscriptions.values()) held.renewed(serial, this.lease, revision, sent - lag);
this._forgetTombstones();
}
beaten(revision, asof) {
let moved = false;
for (const held of this.subscriptions.values()) {
if (held.beaten(this.lease, revision, asof)) moved = true;
}
if (moved) this._forgetTombstones();
}
heldBefore(name, serial) {
const held = this.subscriptions.get(name);
return !!held && held.added < serial;
}
unchangedSince(serial) {
return [...this.subscriptions.values()].every((held) => held.added < serial);
}
unanswered(serial) {
return [...this.subscriptions.values()].some((held) => held.lease !== this.lease && held.added < serial);
}
doubt(topic) {
return this._covering(topic).map((held) => {
held.doubted(this._serial);
return held.name;
});
}
relist(names) {
for (const name of names) this.subscriptions.get(name)?.compacted(this._serial);
}
reset(position) {
this.position = position;
this.resets += 1;
this._resetSerial = this._serial;
const states = [...this._known.states.values()].filter((state) => !state.deleted);
this._known.replace(states.map(({ topic, value }) => ({ topic, version: 0, value, deleted: false })));
this._tombstones.clear();
this._swept.clear();
this._unreadable.clear();
this.beginLease();
for (const held of this.subscriptions.values()) held.reset();
}
_apply(change, covering, heals) {
const { topic, version } = change;
if (heals) {
const [, , told, knownTo] =  (this._unreadable.get(topic));
this._unreadable.delete(topic);
heals = !(told < version && version <= knownTo);
}
if (!covering.length) return false;
const known = this._known.states.get(topic);
if (!known) {
if (isNone(topic)) return false;
} else if (version <= known.version) {
if (version < known.version) this.dropped += 1;
return false;
}
if (version === 0) return false;
if (!heals && covering.some((held) => held.revision !== null && version <= held.revision)) return false;
this._keep(change);
return true;
}
_covering(topic) {
const own = this.subscriptions.get(topic);
return own ? [own, ...this._above(topic)] : this._above(topic);
}
_above(topic) {
const found = [];
for (const name of reaching(topic)) {
const held = this.subscriptions.get(name);
if (held) found.push(held);
}
return found;
}
_below(name, but = null) {
if (isPrefix(name)) return this._known.below(name, but);
return this._known.states.has(name) ? [name] : [];
}
_forget(topic) {
this._known.forget(topic);
this._tombstones.delete(topic);
this._swept.delete(topic);
}
_keep(change) {
this._known.keep(change);
this._swept.delete(change.topic);
if (change.deleted) this._tombstones.set(change.topic, change.version);
else this._tombstones.delete(change.topic);
}
_heal(question, whole, revision) {
const listed = new Set(whole);
for (const topic of [...this._unreadable.keys()]) {
const asked = question.since.has(topic) || reaching(topic).some((name) => listed.has(name));
if (asked && !question.unreadable.has(topic) && this._later(question, topic, revision)) {
this._unreadable.delete(topic);
}
}
}
_later(question, topic, revision) {
const damage = this._unreadable.get(topic);
return !!damage && damage[0] <= revision && damage[1] < question.serial;
}
_sweep(question, whole, revision) {
const swept = [];
for (const topic of new Set(whole.flatMap((name) => this._below(name)))) {
const known =  (this._known.states.get(topic));
if (known.deleted || known.version >= revision || question.listed.has(topic)) continue;
if (this._covering(topic).every((held) => held.revision === null || held.revision <= revision)) {
const gone = { topic, version: revision, value: null, deleted: true };
this._keep(gone);
this._swept.add(topic);
swept.push(gone);
}
}
return swept;
}
_forgetTombstones() {
for (const [topic, version] of [...this._tombstones]) {
if (this.subscriptions.has(topic) && !this._swept.has(topic)) continue;
if (this._covering(topic).every((held) => held.revision !== null && held.revision >= version)) {
this._forget(topic);
}
}
}
}
const LOOK_AGAIN_S = 1;
const WAIT_S_MAX = 25;
const QUESTIONS_REFUSED_MAX = 256;
const keyOf = (names) => JSON.stringify([...names].sort());
class PollPath {
constructor(core, askedElsewhere) {
this._core = core;
this._askedElsewhere = askedElsewhere;
this.rotation = new Rotation(core.options.urls, core.random, core.reach);
this._pending = null;
this._rest = [];
this._roundSent = -Infinity;
this.pollAt = Infinity;
this._held = false;
this._refused = new Map();
this._nothingFor = null;
this._nothingUntil = -Infinity;
this._namesMax = NAMES_MAX;
this._loweredFor = null;
this._holds = null;
}
get inFlight() {
return this._pending !== null;
}
deadline() {
const pollAt = this._core.credentials.held ? Infinity : this.pollAt;
if (!this._pending) return pollAt;
return this._waits ? Math.min(this._pending.deadline, pollAt) : this._pending.deadline;
}
get asksAt() {
return this._nothingFor !== null && this._nothingFor === this._circumstances() ? this._nothingUntil : -Infinity;
}
schedule(due) {
if (!this._pending || this._waits) this.scheduleAgain(due);
}
avoid(url) {
if (this.rotation.url === url) this.rotation.passOver();
}
reachChanged(due) {
if (this._held && this.pollAt < Infinity && this.rotation.choose(this._core.now) <= this._core.now) {
this.pollAt = Math.min(this.pollAt, due);
this._held = false;
}
}
scheduleAgain(due) {
this.pollAt = Math.min(this.pollAt, due);
}
stop() {
this.abandon();
this.pollAt = Infinity;
}
abandon() {
if (this._pending) this._core.act({ do: "abandon", request: this._pending.request });
this._pending = this._holds = null;
this._rest = [];
}
tick() {
const core = this._core;
const due = core.now >= this.pollAt && !core.credentials.held;
if (this._pending && core.now >= this._pending.deadline) {
const { url } = this._pending;
core.reached(url);
this.abandon();
this._failed(url, 0);
} else if (due && (!this._pending || this._waits)) {
if (this._pending) this.abandon();
this.poll();
}
}
poll() {
const core = this._core;
this.pollAt = this.rotation.choose(core.now);
this._held = this.pollAt > core.now;
if (this._held) return;
this.pollAt = Infinity;
this._roundSent = core.now;
if (this._loweredFor !== null && this._loweredFor !== this._circumstances()) {
this._loweredFor = null;
this._namesMax = NAMES_MAX;
}
const elsewhere = this._askedElsewhere();
const held = core.knowledge.subscriptions;
const names = [...held.keys()].filter((name) => !elsewhere.has(name));
this._nothingFor = null;
let allFree = true;
for (let count = core.options.urls.length; count > 0; count--) {
this._rest = core.cut(names, this._namesMax);
const free = this.rotation.freeAt(this.rotation.url) <= core.now;
if (free && this._nextBatch()) return;
allFree &&= free;
if (names.length) this.rotation.passOver();
}
if (names.length && !elsewhere.size && allFree) {
this._nothingFor = this._circumstances();
this._nothingUntil = this._firstLapse();
}
if (held.size) {
this.schedule(core.now + jittered(core.random, names.length ? core.advice.pollEvery : LOOK_AGAIN_S));
}
}
answered(request, message) {
const pending = this._pending;
if (!pending || pending.request !== request) return;
this._pending = null;
const core = this._core;
const { question } = pending;
core.reached(pending.url);
if (!core.knowledge.usable(message.position, question.base)) {
this._historyMismatch();
return;
}
if (core.knowledge.move(message.position)) question.base = message.position;
core.takePage(question, message);
const told = (message.held_ms / 1000) * CLOCK_RATE_MIN;
pending.held += Math.min(told, core.now - question.sent - pending.held);
if (message.more) {
this._nextPage(pending, message.cursor);
return;
}
core.deny(message.denied, message.narrow);
core.credentials.told(pending.token, message.credentials_ms, question.sent);
const { revision } = message.position;
const lag = message.lag_ms / 1000 - pending.held;
const offers = message.next_ms != null && asked(message.next_ms) < core.advice.pollEvery;
this._holds = offers ? pending.url : null;
core.deliver(core.knowledge.finish(question, revision, lag, message.compacted));
this.rotation.succeeded();
core.answeredUrl = pending.url;
core.failures = 0;
if (!this._nextBatch()) this._roundDone(message.next_ms);
core.fire("HTTP_ANSWERED");
}
failed(request, error, unsent) {
const pending = this._pending;
if (!pending || pending.request !== request) return;
this._pending = null;
const core = this._core;
const { url, question } = pending;
if (unsent) core.refusedDial(url, core.connectAt());
else core.reached(url);
core.mistrusted(url, error);
const code = error?.code;
if (error && (code === "too_large" || code === "invalid" || code === "unsupported")) {
this._turnedDown(pending, error);
return;
}
this._rest = [];
if (error && code === "unauthenticated" && !core.unauthenticated(pending.token, error, url)) return;
if (code === "rewound" && error?.position) {
if (core.knowledge.usable(error.position, question.base)) core.fire("REWOUND", { position: error.position });
else this._historyMismatch();
} else if (error && bars(error)) {
core.refused(url, error);
this.pollAt = this.rotation.bar(url, core.now, core.advice);
core.pathFailed(this.rotation);
} else if (code === "denied") {
core.fire("FORBIDDEN", { error });
} else {
if (code === "compacted") core.knowledge.relist(question.since.keys());
this._failed(url, code === "compacted" ? 0 : asked(error?.retryMs));
}
}
_nextPage({ url, body, question, cursors, held }, cursor) {
const core = this._core;
if (cursor == null || cursors.has(cursor) || question.endless) {
core.lastError = new SoftstateError("unavailable", `${url} announces further pages without an end`);
this._failed(url, 0);
return;
}
const elsewhere = this._askedElsewhere();
if ([...question.since.keys()].every((name) => elsewhere.has(name))) {
this._rest = [];
this.schedule(core.now + LOOK_AGAIN_S);
return;
}
cursors.add(cursor);
const wait = body.wait_ms === undefined ? {} : { wait_ms: 0 };
this._send(url, { ...body, cursor, ...wait }, question, cursors, held);
}
_turnedDown({ url, body, question }, error) {
const core = this._core;
let names = [...question.since.keys()];
const halves = error.code === "too_large" && names.length > 1;
if (body.cursor !== undefined && !halves) {
core.lastError = error;
this._failed(url, 0);
return;
}
core.refused(url, error);
if (halves) {
this._loweredFor = this._circumstances();
this._namesMax = (names.length + 1) >> 1;
names = [names, ...this._rest].flat();
this._rest = core.cut(names, this._namesMax);
} else {
this._noteRefused(url, keyOf(names));
}
core.failures = 0;
if (!this._nextBatch()) {
this.rotation.passOver();
this._roundDone(null);
}
core.fire("HTTP_ANSWERED");
}
_noteRefused(url, key) {
const core = this._core;
const refused = this._refused.get(url) ?? new Map();
this._refused.set(url, refused);
if (refused.size >= QUESTIONS_REFUSED_MAX) refused.clear();
refused.set(key, core.now + jittered(core.random, BARRED_CAPS * core.advice.cap));
}
_firstLapse() {
const { now } = this._core;
const until = [...this._refused.values()].flatMap((refused) => [...refused.values()]);
const lapses = until.filter((lapse) => lapse > now);
return lapses.length ? Math.min(...lapses) : now;
}
_circumstances() {
return this._core.knowledge.digest + JSON.stringify(this._core.limits);
}
_nextBatch() {
const core = this._core;
const refused = this._refused.get(this.rotation.url);
for (let portion = this._rest.shift(); portion; portion = this._rest.shift()) {
const names = portion.filter((name) => core.knowledge.subscriptions.has(name));
if (!names.length || (refused?.get(keyOf(names)) ?? -Infinity) > core.now) continue;
const question = core.knowledge.ask(names, core.now);
const { position } = core.knowledge;
const wait_ms = this._waitFor(names);
const wait = wait_ms === null ? {} : { wait_ms };
this._send(this.rotation.url, { ...(position && { position }), ...question.names, ...wait }, question, new Set());
return true;
}
return false;
}
get _waits() {
return !!this._pending?.body.wait_ms;
}
_waitFor(names) {
const { mode, knowledge, advice } = this._core;
if ((mode !== "polling" && mode !== "offline") || names.length !== knowledge.subscriptions.size) return null;
if (mode !== "polling" || this._holds !== this.rotation.url || knowledge.lowestRevision() === null) return 0;
return Math.round(Math.min(advice.pollEvery, WAIT_S_MAX) * 1000);
}
_send(url, body, question, cursors, held = 0) {
const core = this._core;
const timeout_s = core.pollTimeout + (body.wait_ms ?? 0) / 1000;
const deadline = core.now + timeout_s;
const request = core.number();
const { token } = core.credentials.cell;
this._pending = { request, url, body, question, deadline, token, cursors, held };
core.count("polls");
core.reach.probe(url, deadline);
core.act({ do: "send_poll", request, url, message: { op: "poll", ...body }, timeout_s });
}
_roundDone(nextMs) {
const core = this._core;
const every = nextMs == null ? core.advice.pollEvery : Math.max(asked(nextMs), POLL_S_MIN);
const pause = jittered(core.random, every);
this.schedule(Math.max(core.now, this._roundSent + pause));
}
_historyMismatch() {
const core = this._core;
core.count("history_mismatches");
this._rest = [];
this.schedule(core.spread(core.advice.base));
}
_failed(url, retry) {
const core = this._core;
this._holds = null;
this._rest = [];
this.pollAt = this.rotation.failed(url, core.now, core.advice, retry, core.advice.pollSpread);
core.pathFailed(this.rotation);
}
}
class Numbering {
constructor(publisher) {
this.publisher = publisher;
this.last = 0;
this._open = new Set();
}
get idle() {
return !this._open.size;
}
get settled() {
const [first = this.last + 1] = this._open;
return first - 1;
}
take() {
this._open.add(++this.last);
return this.last;
}
settle(seq) {
this._open.delete(seq);
}
hasRoom(seq, most) {
return seq - this.settled <= most;
}
}
class Heap {
constructor() {
this._items = [];
}
get first() {
return this._items[0];
}
push(item) {
let low = 0;
for (let high = this._items.length; low < high; ) {
const middle = (low + high) >> 1;
if (isLess(item, this._items[middle])) high = middle;
else low = middle + 1;
}
this._items.splice(low, 0, item);
}
pop() {
return this._items.shift();
}
clear() {
this._items.length = 0;
}
}
function isLess(one, other) {
const at = one.findIndex((number, i) => number !== other[i]);
return at >= 0 && one[at] < other[at];
}
const UNSEEN = ( topic,  why) =>
`the publish of '${topic}' was sent and may have been applied, and asking again is refused (${why}): read the topic` +
" to learn its outcome";
const VERDICTS = ["conflict", "key_reused", "client_closed", "outcome_unknown"];
const NO_KEY = "-".repeat(64);
class Entry {
constructor(asked, order) {
this.asked = asked;
this.order = order;
this.path = null;
this.sent = -Infinity;
this.maybeApplied = false;
this.tries = 0;
this.dropped = false;
this.refusal = null;
this.numbering = null;
this.seq = 0;
}
get size() {
const { topic, key, wire_bytes = 0 } = this.asked;
return HEAD_BYTES + textBytes(topic) + textBytes(key || NO_KEY) + wire_bytes;
}
get rank() {
return this.numbering ? this.seq : this.order;
}
get change() {
const { topic, value, deleted, expect, key } = this.asked;
const content = deleted ? { deleted } : { value };
return { topic, ...content, ...(expect !== null && { expect }), ...(key !== null && { key }) };
}
get message() {
const { numbering, seq, asked } = this;
const message = { op: "publish", id: asked.ticket, ...this.change };
if (!numbering) return message;
const { key: _, ...unkeyed } = message;
return { ...unkeyed, ...numbers(numbering, seq) };
}
}
function numbers({ publisher, settled }, seq) {
return { publisher, seq, ...(settled && { settled }) };
}
function outcomeOf(entry, error) {
if (!entry.maybeApplied || VERDICTS.includes(error.code)) return error;
return new SoftstateError("outcome_unknown", UNSEEN(entry.asked.topic, error.message));
}
const EXPIRED = ( topic) =>
`the publish of '${topic}' was not answered in time: read the topic to learn its outcome`;
const FORKED = "this process is a child of fork(): the publish is its parent's; read the topic to learn its outcome";
const BATCH_MAX = 100;
const KEY_S_DEFAULT = 600;
const KEY_MARGIN = 0.9;
const NUMBERS_MAX = 1024;
const RETRIED = ["unavailable", "overloaded", "behind"];
const HTTP = "http";
class PublishQueue {
constructor(random, waitingMax, inflightMax) {
this._random = random;
this._waitingMax = waitingMax;
this._inflightMax = inflightMax;
this.keySeconds = KEY_S_DEFAULT;
this.numbersMax = NUMBERS_MAX;
this.repeats = 0;
this._order = 0;
this._entries = new Map();
this._byTopic = new Map();
this._ready = new Heap();
this._again = new Heap();
this._own = new Numbering(random.publisher());
this._numberedAt = -Infinity;
this._waiting = new Heap();
this._inFlight = new Map();
this._unknownSince = new Map();
this._batchMax = BATCH_MAX;
this._portions = new Portions();
this._unfit = false;
}
ask(asked) {
const refuse = ( outcome) => [settled(asked.ticket, outcome)];
if (this._entries.size >= this._waitingMax) {
const text = `${this._waitingMax} publishes are waiting already: wait for some of them, then publish again`;
return refuse(new SoftstateError("overloaded", text));
}
const entry = new Entry(asked, ++this._order);
const tooLarge = this._tooLarge(entry);
if (tooLarge) return refuse(tooLarge);
this._entries.set(asked.ticket, entry);
const line = this._byTopic.get(asked.topic);
if (line) {
line.push(entry);
} else {
this._byTopic.set(asked.topic, [entry]);
this._makeReady(entry);
}
return [];
}
drop(ticket) {
const entry = this._entries.get(ticket);
if (!entry) return;
if (entry.path !== null) entry.dropped = true;
else this._remove(entry);
}
limit(portions) {
this._portions = portions;
this._unfit = true;
}
settleAll(error, ifSent = null) {
const all = [];
for (const [ticket, entry] of this._entries) {
entry.maybeApplied ||= entry.path !== null;
if (!entry.dropped) all.push(settled(ticket, outcomeOf(entry, ifSent && entry.maybeApplied ? ifSent : error)));
}
const tables = [this._entries, this._byTopic, this._inFlight, this._unknownSince];
for (const each of [...tables, this._ready, this._again, this._waiting]) each.clear();
return all;
}
forked() {
this._own = new Numbering(this._random.publisher());
return this.settleAll(new SoftstateError("outcome_unknown", FORKED));
}
overConnection(conn, now) {
const taken = this._take(this._inflightMax - this._inFlight.size, Infinity, conn, now);
return taken.map((entry) => entry.message);
}
overHttp(now) {
const taken = this._take(this._batchMax, this._portions.batchBytes - HEAD_BYTES, HTTP, now);
const changes = taken.map((entry) => entry.change);
const tickets = taken.map((entry) => entry.asked.ticket);
const [first] = taken;
return { tickets, batch: { changes, ...(first?.numbering && numbers(first.numbering, first.seq)) } };
}
sentSince(conn) {
for (const entry of this._inFlight.values()) if (entry.path === conn) return entry.sent;
return Infinity;
}
published(answer) {
const entry = this._entries.get(answer.id);
return !entry || entry.path === null ? [] : this._settle(entry, answer);
}
refused(ticket, error, now, advice) {
const entry = this._inFlight.get(ticket);
if (!entry) return [];
if (!RETRIED.includes(error.code)) return this._settle(entry, outcomeOf(entry, error));
entry.refusal = error;
if (error.code === "unavailable" && error.why !== "untried") entry.maybeApplied = true;
else if (!entry.maybeApplied) this._unknownSince.delete(ticket);
const wait = Math.max(asked(error.retryMs), advice.pause(this._random, entry.tries));
entry.tries += 1;
this._requeue(entry, now + wait);
return [];
}
lost(path) {
for (const entry of this._on(path)) {
entry.maybeApplied = true;
this._requeue(entry);
}
this._unfit = true;
}
returned(path, refusal = null) {
for (const entry of this._on(path)) this._putBack(entry, refusal);
this._unfit = true;
}
putBack(ticket, refusal) {
const entry = this._inFlight.get(ticket);
if (entry) this._putBack(entry, refusal);
}
refusal(ticket) {
const entry = this._entries.get(ticket);
return !entry || entry.path !== null || entry.maybeApplied ? null : entry.refusal;
}
batchAnswered(tickets, results, now, advice) {
this._batchMax = Math.min(BATCH_MAX, this._batchMax * 2);
const all = tickets.flatMap((ticket, i) => {
const { code, topic = "", version = 0, position, repeated } = results[i];
if (!code && position) {
return this.published({ op: "published", id: ticket, topic, version, position, ...(repeated && { repeated }) });
}
const fault = new SoftstateError("unavailable", "a result without code and position");
return this.refused(ticket, code ? errorOf(results[i]) : fault, now, advice);
});
this.lost(HTTP);
return all;
}
batchRefused(tickets, error) {
if (tickets.length === 1) {
const entry = this._inFlight.get(tickets[0]);
return entry ? this._settle(entry, outcomeOf(entry, error)) : [];
}
this._batchMax = Math.max(1, tickets.length >> 1);
this.returned(HTTP);
return [];
}
due() {
const [oldest = Infinity] = this._unknownSince.values();
return Math.min(this._waiting.first?.[0] ?? Infinity, oldest + KEY_MARGIN * this.keySeconds);
}
tick(now) {
for (let first = this._waiting.first; first && first[0] <= now; first = this._waiting.first) {
const [, order, ticket] = first;
this._waiting.pop();
const entry = this._next(ticket);
if (entry?.order === order) this._makeReady(entry);
}
const all = [];
for (const [ticket, since] of [...this._unknownSince]) {
if (now < since + KEY_MARGIN * this.keySeconds) break;
const entry =  (this._entries.get(ticket));
all.push(...this._settle(entry, new SoftstateError("outcome_unknown", EXPIRED(entry.asked.topic))));
}
if (this._unfit) all.push(...this._refuseUnfit());
return all;
}
get ready() {
return this._first(Infinity) !== null;
}
_take(most, bytesMax, path, now) {
const taken = [];
for (let entry; taken.length < most && (entry = this._first(now)); taken.push(entry)) {
bytesMax -= entry.size;
if (taken.length && (bytesMax < 0 || (path === HTTP && !this._follows(entry, taken[taken.length - 1])))) break;
(entry.numbering ? this._again : this._ready).pop();
if (!entry.numbering && entry.asked.key === null) {
entry.numbering = this._own;
entry.seq = this._own.take();
this._numberedAt = now;
}
if (entry.sent > -Infinity) this.repeats += 1;
entry.path = path;
entry.sent = now;
this._inFlight.set(entry.asked.ticket, entry);
if (!this._unknownSince.has(entry.asked.ticket)) this._unknownSince.set(entry.asked.ticket, now);
}
return taken;
}
_first(now) {
const again = this._head(this._again);
const entry = this._head(this._ready);
if (again?.numbering?.hasRoom(again.seq, this.numbersMax)) return again;
if (entry && entry.asked.key === null) {
if (this._own.idle && now - this._numberedAt >= KEY_MARGIN * this.keySeconds && now < Infinity) {
this._own = new Numbering(this._random.publisher());
}
if (!this._own.hasRoom(this._own.last + 1, this.numbersMax)) return null;
}
return entry;
}
_head(heap) {
for (let first = heap.first; first; first = heap.first) {
const entry = this._next(first[1]);
if (entry?.rank === first[0]) return entry;
heap.pop();
}
return null;
}
_follows(entry, last) {
if (!last.numbering) return !entry.numbering && entry.asked.key !== null;
if (!entry.numbering) {
return entry.asked.key === null && last.numbering === this._own && last.seq === last.numbering.last;
}
return entry.numbering === last.numbering && entry.seq === last.seq + 1;
}
_tooLarge(entry) {
const limits = this._portions;
const size = entry.asked.cbor_bytes ?? 0;
let text = "";
if (size > limits.valueBytes) {
text = `value is ${size} bytes encoded as CBOR, the limit (value_bytes) is ${limits.valueBytes}`;
} else if (limits.publishBytes !== null && entry.size > limits.publishBytes) {
text = `the message would have up to ${entry.size} bytes, the limit (message_bytes) is ${limits.publishBytes}`;
}
return text ? new SoftstateError("too_large", text) : null;
}
_refuseUnfit() {
this._unfit = false;
const waiting = [...this._entries.values()].filter((entry) => entry.path === null);
return waiting.flatMap((entry) => {
const tooLarge = this._tooLarge(entry);
return tooLarge ? this._settle(entry, outcomeOf(entry, tooLarge)) : [];
});
}
_next(ticket) {
const entry = this._entries.get(ticket);
return entry && entry.path === null && this._byTopic.get(entry.asked.topic)?.[0] === entry ? entry : null;
}
_makeReady(entry, due = null) {
const { ticket } = entry.asked;
if (due !== null) this._waiting.push([due, entry.order, ticket]);
else (entry.numbering ? this._again : this._ready).push([entry.rank, ticket]);
}
_on(path) {
return [...this._inFlight.values()].filter((entry) => entry.path === path);
}
_putBack(entry, refusal) {
entry.refusal = refusal ?? entry.refusal;
if (!entry.maybeApplied) this._unknownSince.delete(entry.asked.ticket);
this._requeue(entry);
}
_requeue(entry, due = null) {
entry.path = null;
this._inFlight.delete(entry.asked.ticket);
if (entry.dropped) this._remove(entry);
else this._makeReady(entry, due);
}
_settle(entry, outcome) {
this._remove(entry);
return entry.dropped ? [] : [settled(entry.asked.ticket, outcome)];
}
_remove(entry) {
const { ticket, topic } = entry.asked;
for (const table of [this._entries, this._inFlight, this._unknownSince]) table.delete(ticket);
entry.numbering?.settle(entry.seq);
const line =  (this._byTopic.get(topic));
const at = line.indexOf(entry);
line.splice(at, 1);
if (!line.length) this._byTopic.delete(topic);
else if (at === 0) this._makeReady(line[0]);
}
}
function settled(ticket, outcome) {
return { do: "settled", ticket, outcome };
}
const ROUND_S_MAX = 5;
const TRY_S_MIN = 1;
class PublishPath {
constructor(core) {
this._core = core;
this._rotation = new Rotation(core.options.urls, core.random);
this._request = null;
this._tickets = [];
this._token = null;
this._notBefore = -Infinity;
this._roundEnds = Infinity;
this.waitUntil = Infinity;
this.deadline = Infinity;
}
get inFlight() {
return this._request !== null;
}
get due() {
if (this._core.credentials.held) return Infinity;
return this._core.mode === "connecting" ? Math.max(this.waitUntil, this._notBefore) : this._notBefore;
}
send() {
const core = this._core;
const rotation = this._rotation;
if (rotation.fresh) {
this._roundEnds = core.now + Math.min(ROUND_S_MAX, core.pollTimeout);
if (core.answeredUrl !== null) rotation.beginAt(core.answeredUrl);
}
this._notBefore = rotation.choose(core.now);
if (this._notBefore > core.now) return;
const { tickets, batch } = core.queue.overHttp(core.now);
this._tickets = tickets;
this._request = core.number();
this._token = core.credentials.cell.token;
const timeout_s = Math.max((this._roundEnds - core.now) / rotation.left, TRY_S_MIN);
this.deadline = core.now + timeout_s;
core.act({ do: "send_publish", request: this._request, url: rotation.url, batch, timeout_s });
}
stop() {
if (this._request === null) return;
this._core.act({ do: "abandon", request: this._request });
this._request = null;
this._core.queue.lost(HTTP);
}
tick() {
if (this._request === null || this._core.now < this.deadline) return;
this.stop();
this._failed(0);
}
answered(request, results) {
if (request !== this._request) return;
this._request = null;
const core = this._core;
if (results.length !== this._tickets.length) {
core.queue.lost(HTTP);
this._failed(0);
return;
}
this._rotation.succeeded();
core.reached(this._rotation.url);
core.answeredUrl = this._rotation.url;
core.failures = 0;
core.act(...core.queue.batchAnswered(this._tickets, results, core.now, core.advice));
core.fire("HTTP_ANSWERED");
}
failed(request, error, unsent) {
if (request !== this._request) return;
this._request = null;
const core = this._core;
const { url } = this._rotation;
core.mistrusted(url, error);
if (error?.code === "unauthenticated") {
core.queue.returned(HTTP, error);
core.unauthenticated(this._token, error, url);
} else if (error?.why === FOREIGN) {
core.refused(url, error);
core.queue.lost(HTTP);
this._failed(0);
} else if (error && bars(error)) {
this._barred(error);
} else if (unsent || error?.code === "not_found" || error?.code === "overloaded") {
core.queue.returned(HTTP, error);
if (unsent && !core.reach.refuses(url)) core.refusedDial(url, core.connectAt());
this._failed(asked(error?.retryMs));
} else if (!error || RETRIED.includes(error.code)) {
core.queue.lost(HTTP);
this._failed(asked(error?.retryMs));
} else {
core.act(...core.queue.batchRefused(this._tickets, error));
}
}
_barred(error) {
const core = this._core;
const rotation = this._rotation;
core.refused(rotation.url, error);
this._notBefore = rotation.bar(rotation.url, core.now, core.advice);
if (rotation.roundOver) {
this._notBefore = core.now;
rotation.notBefore = -Infinity;
for (const ticket of this._tickets) core.act(...core.queue.batchRefused([ticket], error));
} else {
core.queue.returned(HTTP, error);
}
core.pathFailed(rotation);
}
_failed(retry) {
const core = this._core;
this._notBefore = this._rotation.failed(this._rotation.url, core.now, core.advice, retry);
core.pathFailed(this._rotation);
}
}
const LATER = ["unavailable", "overloaded", "behind"];
const TURNED_DOWN = ["invalid", "too_large"];
const FORBIDDEN = ["unauthenticated", "denied"];
const DROPS_SESSION = ["rewound", "replaced"];
class PushMessages {
constructor(core, push) {
this._core = core;
this._push = push;
}
read(connection, message) {
connection.beats.heard(this._core.now);
if (connection.stage === "greeting") this._beforeWelcome(connection, message);
else if (connection.open) this._read(connection, message);
}
_read(connection, message) {
const core = this._core;
switch (message.op) {
case "notify":
return this._notify(connection, message);
case "published":
return core.act(...core.queue.published(message));
case "position":
return void this._inHistory(connection, message.position);
case "beat":
return this._beat(connection, message);
case "subscribed":
case "polled":
return this._answer(connection, message);
case "renewed":
return this._renewed(connection, message);
case "denied":
return this._namesLost(connection, message);
case "authenticated":
return this._authenticated(connection, message);
case "revoked":
return this._revoked(connection, message);
case "error":
return this._error(connection, message);
case "bye":
return core.fire("BYE", this._byeCause(message));
}
}
_beforeWelcome(connection, message) {
const core = this._core;
if (message.op === "welcome") {
this._welcome(connection, message);
} else if (message.op === "error") {
if (message.code === "rewound" && message.position) {
this._rewound(connection, message.position);
} else if (message.code === "unauthenticated") {
if (this._unauthenticated(connection, message)) core.fire("REFUSED");
} else {
core.fire(FORBIDDEN.includes(message.code) ? "FORBIDDEN" : "REFUSED", causeOf(message));
}
} else if (message.op === "bye") {
const { retry = 0, spread = 0 } = this._byeCause(message);
core.fire("REFUSED", { retry: retry + core.random.uniform(0, spread) });
}
}
_welcome(connection, message) {
const core = this._core;
const push = this._push;
const { knowledge } = core;
const { limits, position } = message;
connection.latest = position;
if (!knowledge.usable(position, connection.base)) return this._historyMismatch();
core.advice = Advice.of(message.poll, message.recover);
core.limit(limits);
core.queue.keySeconds = limits.key_ms / 1000;
core.queue.numbersMax = Math.max(limits.inflight, 1);
core.failures = 0;
core.answeredUrl = connection.url;
core.count("welcomes");
connection.welcome(message, core.now);
core.credentials.told(connection.presented, message.credentials_ms, connection.helloSent);
core.timeout = connection.timeout;
push.early.welcomed(connection.url, limits);
push.session = { token: message.session, leaseUntil: connection.leaseUntil, agreed: null };
core.deny([...knowledge.subscriptions.keys()].slice(limits.subscriptions));
if (!connection.requests.size) knowledge.beginLease();
push.scheduleRenewal(connection);
if (message.reset === true) {
connection.voidRequests();
core.fire("WELCOME_RESET", { position });
} else {
this._move(connection, position);
this._welcomeInHistory(connection, message.resumed);
}
if (!knowledge.subscriptions.size) push.checkAnswered(connection.helloSerial);
push.presentToken();
}
_welcomeInHistory(connection, resumed) {
const core = this._core;
const { knowledge } = core;
core.count("resumed", +resumed);
const same = knowledge.digest === connection.helloDigest && knowledge.unchangedSince(connection.helloSerial);
if (resumed && same) {
knowledge.resume(connection.helloSerial);
this._push.agree(connection.helloSerial);
core.fire("WELCOME_RESUMED");
} else {
core.fire("WELCOME_NEW");
}
}
_notify(connection, message) {
connection.notifyCount += 1;
const core = this._core;
const { knowledge } = core;
const { position } = knowledge;
const { topic, version } = message;
if (!position || !knowledge.usable(connection.latest, connection.base)) return this._historyMismatch();
if (version > position.revision) this._move(connection, { ...position, revision: version });
if (message.unknown) {
core.count("repairs_unknown");
const names = knowledge.doubt(topic);
if (names.length) core.fire("UNKNOWN", { names, version });
return;
}
const change = { topic, version, value: message.value ?? null, deleted: message.deleted };
if (knowledge.apply(change)) core.deliver([change]);
}
_beat(connection, message) {
const core = this._core;
const { knowledge } = core;
core.count("beats");
connection.beats.beaten(message.next_ms, core.random.uniform(0, 1));
const leased = connection.stage === "leased" && core.now < connection.leaseUntil;
if (leased && message.sent !== connection.notifyCount) return this._pushesLost(connection, message.sent);
const { position } = message;
if (!leased || !sameLineage(position, knowledge.position)) return;
connection.latest = position;
this._move(connection, position);
const asof = connection.beats.asof(message.clock_ms ?? 0, core.now);
if (asof !== null) knowledge.beaten(position.revision, asof);
}
_namesLost(connection, message) {
this._core.deny(message.names, message.narrow);
for (const renewal of connection.renewals.values()) renewal.setChanged = true;
}
_authenticated(connection, message) {
const { presenting } = connection;
if (!presenting || message.id !== presenting.id) return;
connection.toldCredentials(message.credentials_ms, presenting.sent);
this._push.authenticated(connection);
this._core.credentials.told(connection.presented, message.credentials_ms, presenting.sent);
this._push.presentToken();
}
_unauthenticated(connection, message) {
return this._core.unauthenticated(connection.presented, errorOf(message), connection.url);
}
_authRefused(connection, message) {
const core = this._core;
const { token } =  (connection.presenting);
connection.presenting = null;
const error = errorOf(message);
if (error.code !== "unauthenticated") return core.credentials.postpone(error);
if (!core.tokenRefused(token, error, connection.url)) return core.fire("TOKEN_FINAL", { error });
if (core.credentials.isPresent(token) && !connection.awaitsCredentials) {
core.credentials.cell.token = connection.presented;
}
core.credentials.fetch();
}
_revoked(connection, message) {
const core = this._core;
if (message.reason !== "denied") {
core.fire("REVOKED", { retry: asked(message.retry_ms), spread: asked(message.spread_ms) });
return;
}
const text = "the node revoked the lease: these credentials do not allow it any more";
if (core.credentials.provider) {
const error = new SoftstateError("unauthenticated", text, { why: "revoked" });
core.unauthenticated(connection.presented, error, connection.url);
} else {
core.fire("FORBIDDEN", { error: new SoftstateError("denied", text) });
}
}
_answer(connection, message) {
const core = this._core;
const request = connection.requests.get(message.id);
if (!request || !this._inHistory(connection, message.position)) return;
const { question } = request;
connection.page(core.now, question.sent);
core.takePage(question, message);
if (message.more) {
if (question.endless) {
const text = `${connection.url} announces further pages without an end`;
core.lastError = new SoftstateError("unavailable", text);
core.count("misses");
core.fire("STUCK");
}
return;
}
connection.requests.delete(message.id);
const denied = core.deny(message.denied, message.narrow);
if (denied.length) {
if (request.joins) connection.expectMismatch(request);
else this._push.unsubscribe(denied);
}
const { revision } = message.position;
core.deliver(core.knowledge.finish(question, revision, message.lag_ms / 1000, message.compacted));
if (!request.joins) return;
connection.extend(question.sent);
if (message.op === "subscribed") connection.beats.answered(question.sent, core.now, message.clock_ms);
this._push.checkAnswered(question.serial);
}
_renewed(connection, message) {
const renewal = connection.renewals.get(message.id);
if (!renewal) return;
connection.renewals.delete(message.id);
if (!this._inHistory(connection, message.position)) return;
const core = this._core;
core.advice = Advice.of(message.poll, message.recover);
core.credentials.told(connection.presented, message.credentials_ms, renewal.sent);
connection.agreeOn(message, renewal.sent, core.now);
connection.extend(renewal.sent);
if (connection.stage !== "leased") return;
if (!message.match && renewal.setChanged) {
this._push.renew();
} else if (!message.match) {
core.count("repairs_mismatch");
core.fire("MISMATCH");
} else if (message.sent !== connection.notifyCount) {
this._pushesLost(connection, message.sent);
} else {
this._confirmed(renewal, message);
}
}
_pushesLost(connection, sent) {
this._core.count("repairs_sent_unequal");
connection.notifyCount = sent;
this._core.fire("MISMATCH");
}
_confirmed(renewal, message) {
const core = this._core;
this._push.agree(renewal.serial);
if (message.store === "down") return core.fire("RENEWED_DOWN");
core.knowledge.renewed(renewal.serial, renewal.sent, message.position.revision, message.lag_ms / 1000);
if (core.knowledge.unanswered(renewal.serial)) {
core.count("repairs_unanswered");
core.fire("MISMATCH");
} else {
core.fire("RENEWED_MATCH");
}
}
_error(connection, message) {
const core = this._core;
const { id, code } = message;
const request = connection.requests.get(id);
if (connection.presenting && id === connection.presenting.id) {
this._authRefused(connection, message);
} else if (code === "unauthenticated" && core.credentials.provider) {
this._refusedAgain(connection, message);
} else if (typeof id === "number") {
core.act(...core.queue.refused(id, errorOf(message), core.now, core.advice));
} else if (connection.voided.has(id)) {
return;
} else if (code === "rewound") {
if (message.position) this._rewound(connection, message.position);
} else if (FORBIDDEN.includes(code)) {
core.fire("FORBIDDEN", causeOf(message));
} else if (request) {
connection.requests.delete(id);
this._requestFailed(connection, request, message);
} else if (connection.renewals.delete(id)) {
this._renewalFailed(connection, message);
}
}
_refusedAgain(connection, message) {
if (typeof message.id === "number") this._core.queue.putBack(message.id, errorOf(message));
if (!connection.awaitsCredentials && this._unauthenticated(connection, message)) {
this._core.fire("REVOKED", { retry: Infinity });
this._push.awaitCredentials();
}
}
_requestFailed(connection, request, message) {
const core = this._core;
const { question } = request;
const { code } = message;
const held = () => [...question.since.keys()].filter((name) => core.knowledge.heldBefore(name, question.serial));
if (code === "compacted") core.knowledge.relist(question.since.keys());
const turnedDown = request.early && TURNED_DOWN.includes(code);
if (turnedDown || (request.joins && ![...LATER, "compacted", "no_lease"].includes(code))) {
connection.expectMismatch(request);
if (turnedDown) this._push.subscribe(held());
else core.deny(held());
this._push.checkAnswered(question.serial);
return;
}
const retry = Math.max(asked(message.retry_ms), core.advice.pause(core.random, connection.tries));
connection.tries += 1;
connection.retry(core.now + retry);
core.fire("RETRY_LATER");
}
_renewalFailed(connection, message) {
if (connection.stage !== "leased") return;
if (message.code !== "no_lease") return this._core.fire("RENEWED_DOWN");
this._core.count("repairs_no_lease");
this._core.fire("NO_LEASE");
}
_rewound(connection, position) {
if (this._core.knowledge.usable(position, connection.base)) this._core.fire("REWOUND", { position });
else this._historyMismatch();
}
_byeCause(message) {
if (DROPS_SESSION.includes(message.reason)) this._push.session = null;
return { retry: asked(message.retry_ms), spread: asked(message.spread_ms) };
}
_inHistory(connection, position) {
connection.latest = position;
if (!this._core.knowledge.usable(position, connection.base)) {
this._historyMismatch();
return false;
}
this._move(connection, position);
return true;
}
_move(connection, position) {
if (this._core.knowledge.move(position)) connection.base = position;
}
_historyMismatch() {
this._core.count("history_mismatches");
this._core.fire("HISTORY_MISMATCH");
}
}
const RATE = 0.98;
const LATE = 1.2;
const PATIENCE_S_MIN = 1;
const ROUND_TRIPS = 4;
const HELD_UP_S = 0.25;
const ROUND_TRIP_KEPT = 0.8;
class BeatWatch {
constructor() {
this.timeout = Infinity;
this.every = 0;
this.lullMax = Infinity;
this.heardAt = -Infinity;
this.missing = 0;
this._sent = 0;
this._clock = null;
this._roundTrip = 0;
this._jitter = 1;
this._asked = false;
this._told = false;
this._excused = false;
}
answered(sent, now, clockMs) {
if (!this.every || clockMs == null) return;
this._roundTrip = Math.max(now - sent, this._roundTrip * ROUND_TRIP_KEPT);
const clock = clockMs / 1000;
if (this._clock === null || sent - RATE * clock > this._sent - RATE * this._clock) {
this._sent = sent;
this._clock = clock;
}
}
asof(clockMs, now) {
if (this._clock === null) return null;
const passed = clockMs / 1000 - this._clock;
const asof = this._sent + (passed >= 0 ? RATE * passed : passed);
if (asof > now) {
this.forgetAnchor();
return null;
}
return asof;
}
forgetAnchor() {
this._clock = null;
}
beginAgain() {
this.missing = 0;
this.forgetAnchor();
}
grant(everyMs, lullMax, now) {
this.every = everyMs / 1000;
this.lullMax = lullMax;
this.heard(now);
}
heard(now) {
if (!this.every) return;
if (this._asked) this.missing += 1;
this.heardAt = now;
this._asked = this._told = this._excused = false;
}
beaten(nextMs, jitter) {
this.every = nextMs / 1000;
this.missing = 0;
this._jitter = jitter;
}
get askAt() {
if (!this.every || this._asked) return Infinity;
return this.heardAt + this._lull + (this._jitter * this._patience) / 2;
}
get silentAt() {
return this.every && !this._told ? this.heardAt + this._lull + this._patience : Infinity;
}
asked() {
this._asked = true;
}
excuses(now) {
if (this._excused || now - this.silentAt < HELD_UP_S) return false;
this._excused = true;
this.heardAt += now + HELD_UP_S - this.silentAt;
if (Number.isNaN(this.heardAt)) this.heardAt = Infinity;
return true;
}
told() {
this._told = true;
}
get _lull() {
const lull = LATE * this.every;
return Math.max(Math.min(lull * 2 ** this.missing, this.lullMax), lull);
}
get _patience() {
return Math.min(Math.max(ROUND_TRIPS * this._roundTrip, PATIENCE_S_MIN), this.timeout);
}
}
const LEASE_MARGIN = 0.99;
class Connection {
constructor(conn, url, deadline) {
this.conn = conn;
this.url = url;
this.deadline = deadline;
this.stage = "opening";
this.helloSerial = 0;
this.helloSent = Infinity;
this.helloDigest = "";
this.base = null;
this.latest = null;
this.notifyCount = 0;
this.requests = new Map();
this.renewals = new Map();
this.voided = new Set();
this.leaseBegan = -Infinity;
this.leaseUntil = Infinity;
this.ttl = 0;
this.credentialsUntil = Infinity;
this.presented = null;
this.presenting = null;
this.awaitsCredentials = false;
this.renewEvery = 0;
this.timeout = 0;
this.pageAt = -Infinity;
this.pageSent = Infinity;
this.renewAt = Infinity;
this.resubscribeAt = Infinity;
this.beats = new BeatWatch();
this.changed = 0;
this.tries = 0;
}
get open() {
return this.stage !== "opening" && this.stage !== "greeting";
}
get leased() {
return this.stage === "leased" || this.stage === "retrying";
}
welcome(message, now) {
this.stage = "leased";
this.leaseBegan = now;
this.timeout = Math.max(message.timeout_ms / 1000, TIMEOUT_S_MIN);
this.beats.timeout = this.timeout;
this.agreeOn(message, this.helloSent, now);
this.leaseUntil = this.leaseEnd(this.helloSent);
if (this.requests.size || this.renewals.size) this.page(now, this.helloSent);
}
agreeOn(message, sent, now) {
this.ttl = message.ttl_ms / 1000;
this.toldCredentials(message.credentials_ms, sent);
this.renewEvery = Math.max(message.renew_ms / 1000, RENEW_S_MIN);
this.beats.grant(message.beat_ms, this.renewEvery, now);
this.beats.answered(sent, now, message.clock_ms);
}
leaseEnd(sent) {
return Math.min(sent + LEASE_MARGIN * this.ttl, this.credentialsUntil);
}
toldCredentials(ms, sent) {
this.credentialsUntil = sent + CREDENTIALS_MARGIN * (ms == null ? Infinity : ms / 1000);
}
extend(sent) {
this.leaseUntil = Math.max(this.leaseUntil, this.leaseEnd(sent));
}
page(now, sent) {
this.pageAt = now;
this.pageSent = sent;
}
resubscribe(now) {
this.forgetRequests();
this.beats.beginAgain();
if (!this.leased) this.leaseBegan = now;
this.stage = "leased";
this.resubscribeAt = Infinity;
}
endWait() {
this.resubscribeAt = Infinity;
if (this.stage === "retrying") this.stage = "leased";
}
retry(due) {
this.requests.clear();
this.stage = "retrying";
this.resubscribeAt = due;
}
revoked(due) {
this.forgetRequests();
this.stage = "revoked";
this.resubscribeAt = due;
}
forgetRequests() {
this.requests.clear();
this.renewals.clear();
}
voidRequests() {
this.voided = new Set([...this.requests.keys(), ...this.renewals.keys()]);
this.forgetRequests();
}
overdue(now) {
return this._missedAt <= now;
}
clearTimers() {
for (const each of [...this.requests.values(), ...this.renewals.values()]) each.timedOut = true;
}
expectMismatch({ question }) {
for (const renewal of this.renewals.values()) if (renewal.serial > question.serial) renewal.setChanged = true;
}
get due() {
if (!this.open) return this.deadline;
if (!this.leased) return this.resubscribeAt;
const renewAt = this.renewing ? Infinity : this.renewAt;
return Math.min(this.resubscribeAt, renewAt, this.leaseUntil, this._missedAt, this.askAt, this.silentAt);
}
get askAt() {
return this.renewing || this.stage !== "leased" ? Infinity : this.beats.askAt;
}
get silentAt() {
return this.stage === "leased" ? this.beats.silentAt : Infinity;
}
get renewing() {
for (const renewal of this.renewals.values()) if (!renewal.timedOut) return true;
return false;
}
get _missedAt() {
let request = Infinity;
for (const each of this.requests.values()) {
if (!each.timedOut) {
request = each.question.sent;
break;
}
}
let renewal = Infinity;
for (const each of this.renewals.values()) {
if (!each.timedOut) {
renewal = each.sent;
break;
}
}
return Math.min(this._waitsSince(request), this._waitsSince(renewal)) + this.timeout;
}
_waitsSince(sent) {
return sent >= this.pageSent ? Math.max(sent, this.pageAt) : sent;
}
}
const EARLY_NAMES_MAX = 1024;
const OWN_CODES_MIN = 4000;
class EarlyNames {
constructor(core) {
this._core = core;
this._told = new Map();
this._alone = new Set();
}
allowed(url) {
return !this._alone.has(url);
}
portions(url) {
const told = this._told.get(url) ?? null;
const { subscriptions, position } = this._core.knowledge;
const names = [...subscriptions.keys()].slice(0, told?.subscriptions ?? EARLY_NAMES_MAX);
return new Portions(told).cut(names, position);
}
welcomed(url, limits) {
this._told.set(url, limits);
this._alone.delete(url);
}
lost(connection, code) {
if (connection.requests.size && (code === null || code < OWN_CODES_MIN)) this._alone.add(connection.url);
}
}
const PUBLISH_TIMEOUTS = 4;
const IDLE_TIMEOUTS = 4;
const BRIEF_MIN = 2;
const RENEWALS_MAX = 8;
class PushPath {
constructor(core) {
this._core = core;
this.rotation = new Rotation(core.options.urls, core.random, core.reach);
this.connection = null;
this.session = null;
this.early = new EarlyNames(core);
this.connectAt = Infinity;
this.placed = false;
this._held = false;
this._requests = 0;
this._brief = 0;
}
get open() {
return this.connection?.open ? this.connection : null;
}
asking() {
const found = new Set();
if (!this.open) return found;
const held = this._core.knowledge.subscriptions;
const idleSince = this._core.now - IDLE_TIMEOUTS * this.open.timeout;
for (const { joins, timedOut, question } of this.open.requests.values()) {
if (!joins || timedOut || question.idleSince <= idleSince) continue;
for (const name of question.since.keys()) if (held.get(name)?.whole) found.add(name);
}
return found;
}
deadline() {
if (!this.connection) return this._core.credentials.held ? Infinity : this.connectAt;
return Math.min(this.connection.due, this._stuckAt(this.connection));
}
tick() {
const core = this._core;
const { connection } = this;
const { now } = core;
if (!connection) {
if (now >= this.connectAt && !core.credentials.held) this.connect();
} else if (now < this.deadline()) {
return;
} else if (!connection.open) {
core.reached(connection.url);
core.fire("REFUSED");
} else if (now >= this._stuckAt(connection)) {
this._missed("STUCK");
} else if (now >= connection.leaseUntil && connection.leased) {
this._missed("EXPIRED");
} else if (connection.leased && connection.overdue(now)) {
this._missed("ANSWER_MISSED");
} else if (now >= connection.resubscribeAt) {
connection.endWait();
core.fire("WAIT_OVER");
} else if (now >= connection.silentAt && !connection.beats.excuses(now)) {
connection.beats.told();
this._missed("SILENT");
} else if (now >= connection.due) {
if (now >= connection.askAt) connection.beats.asked();
this.renew();
}
}
connect() {
const core = this._core;
this.connectAt = this.rotation.choose(core.now);
this._held = this.connectAt > core.now;
if (this._held) return;
this.connectAt = Infinity;
const timeout_s = core.options.connect_timeout_s;
const { url } = this.rotation;
core.reach.probe(url, core.now + timeout_s);
this.connection = new Connection(core.number(), url, core.now + timeout_s);
this.connection.presented = core.credentials.cell.token;
core.count("connects");
core.act({ do: "connect", conn: this.connection.conn, url, timeout_s });
}
hello(connection) {
const core = this._core;
const { options, knowledge } = core;
const { session } = this;
connection.stage = "greeting";
connection.helloSent = core.now;
connection.deadline = core.now + options.hello_timeout_s;
connection.helloSerial = knowledge.nextSerial();
connection.helloDigest = knowledge.digest;
const position = (connection.base = knowledge.position);
let since = null;
if (session && core.now < session.leaseUntil && session.agreed === connection.helloDigest && position) {
since = knowledge.lowestRevision();
}
const resumes = since !== null && !!session?.token;
const token = (connection.presented = core.credentials.cell.token);
this._send(connection, {
op: "hello",
...(position && { position }),
...(resumes && { session: session?.token, since }),
...(options.ttl_ms !== null && { ttl_ms: options.ttl_ms }),
...(token !== null && { token }),
...(options.name && { name: options.name }),
...(options.beat_ms !== null && { beat_ms: options.beat_ms }),
});
if (!this.early.allowed(connection.url)) return;
if (resumes) {
this._renew(connection);
} else if (knowledge.subscriptions.size) {
knowledge.beginLease();
this._subscribePortions(connection, this.early.portions(connection.url));
}
}
subscribeNew() {
const connection = this._opened();
const held = this._core.knowledge.subscriptions;
if (!connection.requests.size) {
connection.forgetRequests();
if (held.size) this.subscribeAll();
return;
}
const asked = new Map();
for (const { question } of connection.requests.values()) {
for (const name of question.since.keys()) asked.set(name, question.serial);
}
const unwanted = [...asked.keys()].filter((name) => !held.has(name));
if (unwanted.length) this.unsubscribe(unwanted);
const missing = [...held].filter(([name, { added }]) => added >= (asked.get(name) ?? -Infinity));
this.subscribe(missing.map(([name]) => name));
}
subscribeAll() {
const core = this._core;
const connection = this._opened();
connection.resubscribe(core.now);
core.knowledge.beginLease();
this.scheduleRenewal(connection);
const portions = core.cut(core.knowledge.subscriptions.keys());
this._subscribePortions(connection, portions.length ? portions : [[]]);
}
subscribe(names) {
const connection = this.open;
if (connection?.stage !== "leased") return;
for (const portion of this._core.cut(names)) this._subscribe(connection, portion, false);
}
unsubscribe(names) {
const connection = this.open;
if (!connection?.leased) return;
this._disagree(connection, this._core.knowledge.nextSerial());
for (const portion of this._core.cut(names)) {
const topics = portion.filter((name) => !isPrefix(name));
const prefixes = portion.filter(isPrefix);
this._send(connection, {
op: "unsubscribe",
...(topics.length && { topics }),
...(prefixes.length && { prefixes }),
});
}
}
renew() {
const connection = this._opened();
this._renew(connection);
this.scheduleRenewal(connection);
}
_renew(connection) {
const core = this._core;
const id = this._requestId("renew");
const { renewals } = connection;
const serial = core.knowledge.nextSerial();
renewals.set(id, { serial, sent: core.now, setChanged: false, timedOut: false });
if (renewals.size > RENEWALS_MAX) renewals.delete( (renewals.keys().next().value));
const [digest, count] = core.knowledge.digest.split(" ");
const { ttl_ms } = core.options;
this._send(connection, { op: "renew", id, digest, count: +count, ...(ttl_ms !== null && { ttl_ms }) });
}
renewResumed() {
if (!this._opened().renewals.size) this.renew();
}
scheduleRenewal(connection) {
connection.renewAt = this._core.now + jittered(this._core.random, connection.renewEvery);
}
renewOnceMore() {
this._opened().clearTimers();
this.renew();
}
renewLater() {
const core = this._core;
const connection = this._opened();
const pause = core.advice.pause(core.random, connection.tries);
connection.tries += 1;
connection.renewAt = Math.min(connection.renewAt, core.now + pause);
}
pollUncertain(names, min_revision) {
const core = this._core;
const connection = this._opened();
for (const portion of core.cut(names)) {
const question = core.knowledge.ask(portion, core.now);
const id = this._requestId("poll");
connection.requests.set(id, { question, joins: false, early: false, timedOut: false });
const { position } = core.knowledge;
this._send(connection, {
op: "poll",
id,
...(position && { position }),
...question.names,
...(min_revision && { min_revision }),
});
}
}
awaitLease(retry, spread) {
const core = this._core;
const connection = this._opened();
if (this.session) this.session.agreed = null;
core.knowledge.beginLease();
this._noteLease(connection);
connection.revoked(core.now + Math.max(retry, this._pause(spread)));
}
get awaitsCredentials() {
return !!this.connection?.awaitsCredentials;
}
awaitCredentials() {
const connection = this._opened();
if (this.session) this.session.agreed = null;
this._core.knowledge.beginLease();
connection.revoked(Infinity);
connection.awaitsCredentials = true;
}
presentToken() {
const connection = this.open;
const { token } = this._core.credentials.cell;
if (!connection || token === null || connection.presented === token) return;
const id = this._requestId("auth");
connection.presenting = { id, token, sent: this._core.now };
this._send(connection, { op: "auth", id, token });
}
authenticated(connection) {
connection.presented = connection.presenting?.token ?? null;
connection.presenting = null;
if (!connection.awaitsCredentials) return;
connection.awaitsCredentials = false;
connection.resubscribeAt = this._core.now;
}
leave() {
if (!this.connection) return;
this._core.act({ do: "disconnect", conn: this.connection.conn });
this.ended();
}
ended() {
const { connection, session } = this;
if (!connection) return;
if (session && connection.open) session.leaseUntil = connection.leaseUntil;
this._noteLease(connection);
this._core.queue.lost(connection.conn);
this._core.knowledge.beginLease();
this.connection = null;
}
sayGoodbye() {
if (this.open) this._send(this.open, { op: "bye" });
this.session = null;
}
rebase(position) {
if (this.open) this.open.base = position;
}
reconnect(spread) {
this.connectAt = Math.max(this._core.now, this.rotation.notBefore) + this._pause(spread);
this.placed = true;
}
backOff({ unsent, barred, retry }) {
const core = this._core;
const { url } = this.rotation;
if (unsent) core.refusedDial(url, Infinity, this.placed);
if (barred) {
this.connectAt = this.rotation.bar(url, core.now, core.advice);
} else {
this.connectAt = this.rotation.failed(url, core.now, core.advice, retry, core.advice.recoverSpread);
this.placed ||= this.connectAt > core.now;
}
}
reachChanged() {
if (this.connection || this.connectAt === Infinity) return;
const { probeAt } = this.rotation;
if (probeAt !== null) this.connectAt = this._held ? probeAt : Math.max(this.connectAt, probeAt);
else if (this._held) this.connectAt = this._core.spread(this._core.advice.recoverSpread);
this._held = false;
}
agree(serial) {
if (this.session && serial >= this._opened().changed) this.session.agreed = this._core.knowledge.digest;
}
checkAnswered(serial) {
const connection = this.open;
if (connection?.stage !== "leased") return;
for (const request of connection.requests.values()) if (request.joins) return;
connection.tries = 0;
this.agree(serial);
this._core.fire("ALL_ANSWERED");
}
_opened() {
return  (this.open);
}
_send({ conn }, message) {
this._core.act({ do: "send", conn, message });
}
_noteLease(connection) {
if (connection.leased) this._brief = this._core.now - connection.leaseBegan < LEASE_S_MIN ? this._brief + 1 : 0;
}
_pause(spread) {
const { random, advice } = this._core;
return this._brief < BRIEF_MIN ? random.uniform(0, spread) : advice.pause(random, this._brief - BRIEF_MIN, spread);
}
_disagree(connection, serial) {
connection.changed = serial;
if (this.session && connection.open) this.session.agreed = null;
}
_stuckAt(connection) {
if (!connection.open) return Infinity;
const since = Math.min(this._core.queue.sentSince(connection.conn), connection.presenting?.sent ?? Infinity);
return since + PUBLISH_TIMEOUTS * connection.timeout;
}
_missed(trigger) {
this._core.count("misses");
this._core.fire(trigger);
}
_requestId(kind) {
return `${kind}-${++this._requests}`;
}
_subscribePortions(connection, portions) {
portions.forEach((names, at) => this._subscribe(connection, names, at === 0));
}
_subscribe(connection, names, replace) {
const core = this._core;
const question = core.knowledge.ask(names, core.now, core.knowledge.lease);
const id = this._requestId("subscribe");
connection.requests.set(id, { question, joins: true, early: !connection.open, timedOut: false });
this._disagree(connection, question.serial);
this._send(connection, { op: "subscribe", id, ...question.names, ...(replace && { replace }) });
}
}
const OF_ABSENCE = 0.5;
class Reach {
constructor(random) {
this._random = random;
this._refusing = new Map();
}
refused(url, now, advice, spread, placed) {
let known = this._refusing.get(url);
if (known) {
placed = true;
} else {
known = { since: now, allowed: now };
this._refusing.set(url, known);
}
const bound = Math.min(advice.cap, Math.max(advice.base, OF_ABSENCE * (now - known.since)));
const place = placed ? spread : this._random.uniform(0, spread);
known.allowed = now + Math.max(place, this._random.uniform(0, bound));
}
wait(url, now, until) {
const known = this._refusing.get(url);
if (known) known.allowed = until;
else this._refusing.set(url, { since: now, allowed: until });
}
reached(url) {
return this._refusing.delete(url);
}
forget() {
this._refusing.clear();
}
probe(url, until) {
const known = this._refusing.get(url);
if (known) known.allowed = until;
}
refuses(url) {
return this._refusing.has(url);
}
allowedAt(url) {
return this._refusing.get(url)?.allowed ?? -Infinity;
}
}
class RetryBudget {
constructor(core, push, poll) {
this._core = core;
this._push = push;
this._poll = poll;
this._due = Infinity;
this._pushTurn = false;
}
deadline() {
const core = this._core;
return core.mode === "offline" && !this._attempting && !core.credentials.held ? this._due : Infinity;
}
tick() {
const { now } = this._core;
if (now < this.deadline()) return;
const [connectAt, pollAt] = this._allowedAt();
this._due = Math.min(connectAt, pollAt);
if (this._due > now) return;
this._due = Infinity;
if (connectAt <= now && (this._pushTurn || pollAt > now || this._probeAt !== null)) {
this._push.connect();
} else {
this._poll.poll();
if (!this._poll.inFlight) this._endRound();
}
this._pushTurn = !this._pushTurn;
}
failed(rotation) {
const core = this._core;
const shares = rotation === this._poll.rotation || rotation === this._push.rotation;
if (core.mode === "offline" && !shares) return;
const polls = core.knowledge.subscriptions.size && this._poll.asksAt <= core.now;
const tells = rotation === this._poll.rotation || !polls;
if (rotation.roundOver && (tells || (shares && this._probeAt !== null))) core.failures += 1;
if (core.mode === "offline") this._endRound();
else if (core.failures >= core.options.offline_after && !this._push.open) core.fire("OFFLINE_THRESHOLD");
}
share() {
this._endRound();
}
hurry(within = this._core.advice.cap) {
this._due = Math.min(this._due, this._core.now + within);
}
resumePaths() {
const core = this._core;
if (core.options.push && !this._push.connection) {
const earliest = Math.max(core.now, this._push.rotation.notBefore);
this._push.connectAt = earliest + core.advice.pause(core.random, 0);
}
if (this._poll.pollAt === Infinity) this._poll.schedule(core.spread(core.advice.pollSpread));
}
get _probeAt() {
const polls = this._poll.rotation.probeAt;
if (polls === null || !this._core.options.push) return polls;
const connections = this._push.rotation.probeAt;
return connections === null ? null : Math.min(polls, connections);
}
get _attempting() {
const due = Math.min(this._poll.pollAt, this._push.connectAt);
return !!this._push.connection || this._poll.inFlight || due < Infinity;
}
_allowedAt() {
const core = this._core;
const connectAt = core.options.push ? this._push.rotation.choose(core.now) : Infinity;
const pollAt = core.knowledge.subscriptions.size ? this._poll.rotation.choose(core.now) : Infinity;
return [connectAt, Math.max(pollAt, this._poll.asksAt)];
}
_endRound() {
const core = this._core;
const { now, advice } = core;
if (this._poll.pollAt > now) this._poll.pollAt = Infinity;
if (this._push.connectAt > now) this._push.connectAt = Infinity;
const tries = Math.max(core.failures - core.options.offline_after, 0);
this._push.rotation.heed(this._poll.rotation);
this._poll.rotation.heed(this._push.rotation);
const probeAt = this._probeAt;
if (probeAt !== null) {
this._due = probeAt;
return;
}
const spread = Math.max(core.options.push ? advice.recoverSpread : 0, advice.pollSpread);
this._due = Math.max(now + advice.pause(core.random, tries, spread), Math.min(...this._allowedAt()));
}
}
const ROWS = [
[["closed"], ["OPENED"], "connecting", ["connect", "poll_early"]],
[["closed"], ["OPENED_FOR_POLLING"], "polling", ["poll_now"]],
[["connecting", "polling", "offline"], ["WELCOME_RESUMED"], "syncing", ["renew_resumed", "poll_soon"]],
[["connecting", "polling", "offline"], ["WELCOME_NEW"], "syncing", ["subscribe_new", "poll_soon"]],
[["connecting", "polling", "offline"], ["WELCOME_RESET"], "syncing", ["reset", "subscribe_new", "poll_soon"]],
[["connecting", "polling", "offline", "syncing", "live", "suspect"], ["REWOUND"], "polling", ["reset", "leave", "poll_reset", "reconnect_spread"]],
[["connecting"], ["REFUSED"], "polling", ["leave", "back_off", "poll_soon"]],
[["polling", "offline"], ["REFUSED"], null, ["leave", "back_off"]],
[["connecting", "polling", "offline", "syncing", "live", "suspect"], ["HISTORY_MISMATCH"], "polling", ["leave", "poll_soon", "reconnect_spread"]],
[["syncing"], ["ALL_ANSWERED", "RENEWED_MATCH"], "live", ["stop_polling", "reset_backoff"]],
[["syncing"], ["RETRY_LATER"], null, ["poll_soon"]],
[["syncing"], ["RENEWED_DOWN"], null, ["renew_later", "poll_soon"]],
[["syncing"], ["WAIT_OVER"], null, ["subscribe_all"]],
[["syncing"], ["LOST", "ANSWER_MISSED", "EXPIRED", "STUCK"], "polling", ["leave", "back_off", "poll_before_connecting"]],
[["syncing", "live", "suspect"], ["BYE"], "polling", ["leave", "reconnect_after_bye", "poll_before_connecting"]],
[["syncing", "live", "suspect"], ["MISMATCH", "NO_LEASE"], "syncing", ["subscribe_all", "poll_soon"]],
[["live", "suspect"], ["RETRY_LATER"], "syncing", ["poll_soon"]],
[["syncing", "live", "suspect"], ["UNKNOWN"], null, ["poll_uncertain"]],
[["syncing", "live", "suspect"], ["REVOKED"], "polling", ["await_lease", "poll_soon"]],
[["live"], ["RENEWED_MATCH"], null, []],
[["live", "suspect"], ["RENEWED_DOWN"], null, []],
[["live"], ["ANSWER_MISSED", "JUMPED"], "suspect", ["avoid_connected", "poll_now", "renew_once_more"]],
[["live"], ["SILENT"], "suspect", ["avoid_connected", "poll_soon", "renew_once_more"]],
[["suspect"], ["RENEWED_MATCH"], "live", ["stop_polling", "reset_backoff"]],
[["suspect"], ["ANSWER_MISSED"], "polling", ["leave", "reconnect_spread", "poll_before_connecting"]],
[["live", "suspect"], ["LOST", "EXPIRED", "STUCK"], "polling", ["leave", "reconnect_spread", "poll_before_connecting"]],
[["polling"], ["WAIT_OVER"], "syncing", ["subscribe_all"]],
[["polling"], ["LOST", "STUCK"], null, ["leave", "reconnect_spread"]],
[["polling"], ["BYE"], null, ["leave", "reconnect_after_bye"]],
[["polling"], ["OFFLINE_THRESHOLD"], "offline", ["share_retry_budget"]],
[["offline"], ["HTTP_ANSWERED"], "polling", ["resume_paths"]],
[["connecting", "polling", "offline", "syncing", "live", "suspect"], ["FORBIDDEN", "TOKEN_FINAL"], "stopped", ["leave", "stop_polling", "stop"]],
[["connecting", "polling", "offline", "syncing", "live", "suspect"], ["CREDENTIALS_DUE"], null, ["fetch_token"]],
[["connecting"], ["CREDENTIALS_REFUSED"], "polling", ["leave_refused", "hold_paths", "fetch_token"]],
[["polling", "offline"], ["CREDENTIALS_REFUSED"], null, ["leave_refused", "hold_paths", "fetch_token"]],
[["syncing", "live", "suspect"], ["CREDENTIALS_REFUSED"], "polling", ["await_credentials", "hold_paths", "fetch_token"]],
[["syncing", "live", "suspect"], ["TOKEN_GOT"], null, ["present_token"]],
[["connecting", "polling", "offline"], ["TOKEN_GOT"], null, ["present_token", "release_paths"]],
[["connecting", "polling", "offline", "syncing", "live", "suspect", "stopped"], ["CLOSED"], "closed", ["say_goodbye", "leave", "stop_polling", "settle_closed"]],
];
const DROP_SESSION = 4001;
const POLLING = ["connecting", "syncing", "suspect", "polling"];
const TABLE = new Map(
ROWS.flatMap(([modes, triggers, to, actions]) =>
modes.flatMap((mode) => triggers.map((trigger) => [`${mode} ${trigger}`, { to, actions }])),
),
);
class Machine {
constructor(options, random, cell) {
const all = { ...OPTIONS, ...options };
this._knowledge = new Knowledge();
this._credentials = new Credentials(cell ?? { token: all.token }, random, all.provider);
this._queue = new PublishQueue(random, all.publishes_waiting_max, all.inflight_max);
const core = new Core(all, random, this._knowledge, this._queue, this._credentials, new Reach(random));
this._core = core;
this._credentials.core = core;
this._push = new PushPath(core);
this._poll = new PollPath(core, () => this._push.asking());
this._publishes = new PublishPath(core);
this._retries = new RetryBudget(core, this._push, this._poll);
this._messages = new PushMessages(core, this._push);
this._parts = {
core,
push: this._push,
poll: this._poll,
publishes: this._publishes,
retries: this._retries,
};
core.fire = (trigger, cause = {}) => this._fire(trigger, cause);
core.pathFailed = (rotation) => this._retries.failed(rotation);
core.connectAt = () => this._push.connectAt;
core.reachChanged = () => {
this._push.reachChanged();
this._poll.reachChanged(core.now + core.patience());
};
}
get mode() {
return this._core.mode;
}
get position() {
return this._knowledge.position;
}
get valueBytesMax() {
return this._core.portions.valueBytes;
}
get lastError() {
return this._core.lastError;
}
handle(event, now) {
const core = this._core;
core.now = now;
const out = (core.out = []);
this._read(event);
if (core.narrowed.length) this._askFor(core.narrowed.splice(0));
this._tick();
this._sendPublishes();
return out;
}
hurry() {
const { now } = this._core;
this._core.reach.forget();
if (this._push.connectAt < Infinity) this._push.connectAt = now;
if (this._poll.pollAt < Infinity) this._poll.pollAt = now;
if (this.mode === "offline") this._retries.hurry(0);
}
deadline() {
if (this._idle) return Infinity;
const parts = [this._push, this._poll, this._retries, this._credentials];
const due = Math.min(this._queue.due(), ...parts.map((part) => part.deadline()));
if (this._publishes.inFlight) return Math.min(due, this._publishes.deadline);
return this._queue.ready && !this._push.open ? Math.min(due, this._publishes.due) : due;
}
age(now, names = null) {
return this._knowledge.age(now, names);
}
unreadable(names = null) {
return this._knowledge.unreadable(names);
}
known(name) {
return this._knowledge.known(name);
}
refusal(ticket) {
return this._queue.refusal(ticket);
}
statistics() {
return { ...this._core.counts, dropped: this._knowledge.dropped, publishes_repeated: this._queue.repeats };
}
get _idle() {
return this.mode === "closed" || this.mode === "stopped";
}
_read(event) {
const core = this._core;
switch (event.event) {
case "opened":
this._credentials.begin();
return this._fire(core.options.push ? "OPENED" : "OPENED_FOR_POLLING");
case "closed":
return this._fire("CLOSED");
case "jumped":
this._push.connection?.beats.forgetAnchor();
return this._fire("JUMPED");
case "wanted":
return this._askFor(this._knowledge.add(event.names));
case "narrowing":
core.narrowing = new Set(event.names);
return;
case "unwanted": {
const removed = this._knowledge.remove(event.names);
if (removed.length) this._push.unsubscribe(removed);
return;
}
case "publish_requested":
return this._publish(event);
case "publish_dropped":
return this._queue.drop(event.ticket);
case "fresh_wanted":
return this._askNow();
case "forked":
return core.act(...this._queue.forked());
case "poll_answered":
return this._poll.answered(event.request, event.message);
case "publish_answered":
return this._publishes.answered(event.request, event.results);
case "request_failed":
this._poll.failed(event.request, event.error ?? null, !!event.unsent);
return this._publishes.failed(event.request, event.error ?? null, !!event.unsent);
case "token_got":
if (this._credentials.got(event.number, event.token)) this._fire("TOKEN_GOT");
return;
case "token_failed":
if (event.final) this._fire("TOKEN_FINAL", { error: event.error });
else this._credentials.failed(event.number, event.error);
return;
case "token_refused":
return this._tokenRefused(event);
case "connected":
case "connect_failed":
case "arrived":
case "lost":
return this._readConnection(event);
}
}
_publish({ ticket, topic, value = null, deleted = false, expect = null, key = null, cbor_bytes, wire_bytes }) {
const core = this._core;
if (this._idle) {
const outcome = core.stoppedBy ?? new SoftstateError("client_closed", "the client is closed");
core.act({ do: "settled", ticket, outcome });
} else {
core.act(...this._queue.ask({ ticket, topic, value, deleted, expect, key, cbor_bytes, wire_bytes }));
}
}
_tokenRefused({ token, error }) {
const credentials = this._credentials;
if (!credentials.provider || !credentials.isPresent(token)) return;
if (credentials.refused(token, error)) credentials.fetch();
else this._fire("TOKEN_FINAL", { error });
}
_askNow() {
const { open } = this._push;
if (open?.stage === "leased") {
if (!open.renewing) this._push.renew();
} else if (this.mode === "offline") {
this._retries.hurry();
} else if (POLLING.includes(this.mode)) {
this._poll.schedule(this._core.now);
}
}
_askFor(added) {
const core = this._core;
const excess = core.limits ? this._knowledge.subscriptions.size - core.limits.subscriptions : 0;
if (excess > 0) {
const names = added.slice(-excess);
this._knowledge.remove(names);
core.act({ do: "names_denied", names, narrow: {} });
added = added.slice(0, -excess);
}
if (!added.length) return;
this._push.subscribe(added);
if (this.mode === "connecting") ACTIONS.poll_early(this._parts, {});
else if (this.mode === "offline") this._retries.hurry();
else if (POLLING.includes(this.mode)) this._poll.scheduleAgain(core.now);
}
_readConnection(event) {
const { connection } = this._push;
if (!connection || connection.conn !== event.conn) return;
if (event.event === "connect_failed") {
this._connectFailed(connection, event);
} else if (event.event === "arrived") {
this._messages.read(connection, event.message);
} else if (event.event === "lost") {
this._lost(connection, event.code ?? null, event.reason);
} else if (connection.stage === "opening") {
this._core.reached(connection.url);
this._push.hello(connection);
}
}
_connectFailed(connection, { reason, status = null, retry_ms, error = null, unsent = false }) {
const core = this._core;
const { open } = this._push;
if (!unsent) core.reached(connection.url);
core.mistrusted(connection.url, error);
if (bars(error) || error?.code === "unsupported") core.refused(connection.url, error);
this._push.ended();
if (open) {
this._fire("LOST");
} else if ((status === 401 || status === 403) && !bars(error)) {
const text = `the node refuses the connection: ${reason}`;
this._forbidden(connection, status === 401 ? "unauthenticated" : "denied", text, error?.why);
} else {
const barred = status === 403 || status === 404 || bars(error);
this._fire("REFUSED", { retry: asked(retry_ms), barred, unsent });
}
}
_lost(connection, code, reason) {
if (code === DROP_SESSION) this._push.session = null;
const { open } = this._push;
if (!open) this._push.early.lost(connection, code);
this._push.ended();
if (code !== null && code >= 4100 && code < 4300) {
const text = `closed with code ${code}: ${reason}`;
this._forbidden(connection, code < 4200 ? "unauthenticated" : "unsupported", text);
} else {
this._fire(open ? "LOST" : "REFUSED");
}
}
_forbidden(connection, code, text, why) {
const error = new SoftstateError(code, text, code === "unauthenticated" ? { why } : {});
if (code !== "unauthenticated") this._fire("FORBIDDEN", { error });
else if (this._core.unauthenticated(connection.presented, error, connection.url)) this._fire("REFUSED");
}
_fire(trigger, cause = {}) {
const core = this._core;
const row = TABLE.get(`${core.mode} ${trigger}`);
if (!row) return;
if (row.to !== null && row.to !== core.mode) {
core.mode =  (row.to);
core.act({ do: "mode_changed", mode: core.mode });
}
for (const action of row.actions) ACTIONS[action](this._parts, cause);
}
_tick() {
if (this._idle) return;
this._credentials.tick();
this._push.tick();
this._poll.tick();
this._publishes.tick();
this._core.act(...this._queue.tick(this._core.now));
this._retries.tick();
}
_sendPublishes() {
const { open, awaitsCredentials } = this._push;
const { now } = this._core;
if (awaitsCredentials) return;
if (open) {
const ready = this._queue.overConnection(open.conn, now);
this._core.act(...ready.map((message) => ({ do: "send", conn: open.conn, message })));
} else if (this._queue.ready && !this._publishes.inFlight && now >= this._publishes.due) {
this._publishes.send();
}
}
}
const PAGE = "position:p changes?:a more?:b compacted?:t denied?:t lag_ms?:n unreadable?:t narrow?:o";
const TERMS = "ttl_ms:n renew_ms:n poll:P recover:R beat_ms?:n clock_ms?:n credentials_ms?:n";
const FIELDS = Object.fromEntries(
[
`welcome session:s resumed:b position:p timeout_ms:n limits:L reset?:v ${TERMS}`,
`subscribed id:i ${PAGE} clock_ms?:n`,
`polled id?:i ${PAGE} cursor?:s next_ms?:n held_ms?:n credentials_ms?:n`,
"notify topic:s version:n value?:v deleted?:b unknown?:b",
"position position:p",
`renewed id:i match:b position:p sent:n store:s lag_ms?:n ${TERMS}`,
"beat next_ms:n sent:n position?:p clock_ms?:n",
"denied names:t narrow?:o",
"authenticated id:i credentials_ms?:n",
"revoked reason:s retry_ms?:n spread_ms?:n",
"published id:i topic:s version:n position:p repeated?:b",
"error code:s message:s id?:i retry_ms?:n current?:n position?:p why?:s version?:n",
"bye reason:s retry_ms:n spread_ms:n",
].map((line) => {
const [op, ...fields] = line.split(" ");
return [op, fields.map((field) =>  (field.match(/^(\w+)(\??):(\w)$/)).slice(1))];
}),
);
const fieldsOf = (names) => (value) => IS.o(value) && names.split(" ").every((name) => IS.n(value[name]));
const IS = {
s: (value) => typeof value === "string",
n: (value) => typeof value === "number" && value >= 0,
b: (value) => typeof value === "boolean",
p: (value) => IS.o(value) && IS.s(value.epoch) && IS.s(value.lineage) && IS.n(value.revision),
a: Array.isArray,
t: (value) => Array.isArray(value) && value.every(IS.s),
o: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
v: () => true,
i: (value) => typeof value === "string" || IS.n(value),
P: fieldsOf("every_ms spread_ms"),
R: fieldsOf("spread_ms base_ms cap_ms"),
L: fieldsOf("subscriptions value_bytes message_bytes key_ms inflight message_items"),
};
const ZERO = ["lag_ms", "beat_ms", "version", "held_ms"];
const EMPTY = { a: () => [], t: () => [], o: () => ({}), b: () => false };
function fill(message) {
const fields = IS.o(message) && Object.hasOwn(FIELDS, message.op) ? FIELDS[message.op] : null;
if (!fields) {
if (IS.s(message?.op)) return null;
throw new SoftstateError("invalid", "the node sent something that is no message");
}
const filled = { ...message };
for (const [name, optional, kind] of fields) {
const value = message[name];
if (value == null && optional) {
if (kind !== "v") filled[name] = EMPTY[kind]?.() ?? (ZERO.includes(name) ? 0 : undefined);
} else if (!IS[kind](value)) {
throw new SoftstateError("invalid", `the node sent '${message.op}' with a wrong '${name}'`);
}
}
if (filled.changes) filled.changes = filled.changes.map(changeOf);
return filled;
}
function changeOf(change) {
const { topic, version, value = null, deleted = false } = change;
if (!IS.s(topic) || !IS.n(version)) {
throw new SoftstateError("invalid", "the node sent a change without a topic or a version");
}
return { topic, version, value, deleted };
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
const PROTOCOL = "softstate.v1.json";
const WAITING_BYTES_MAX = 8 * 1024 * 1024;
const LOOK_MS = 1000;
const LATE_S = 3;
const WHY_MS = 2000;
const RETRY_AFTER_S_MAX = 3600;
const WAIT_LEVEL = 2;
const UNSENT = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"];
const http = (url) => url.replace(/^ws/, "http");
function randomId() {
return Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(16).padStart(8, "0")).join("");
}
const reasonOf = (error) => String(error?.cause?.message || error?.message || error);
class Shell {
constructor(options, perform, advanced, means = {}) {
this._cell = { token: options.token ?? null };
this._WebSocket = means.WebSocket ?? globalThis.WebSocket;
this._fetch = means.fetch ?? globalThis.fetch.bind(globalThis);
this.clock = means.clock ?? new Clock();
const push = options.push !== false && !!this._WebSocket;
this.machine = new Machine({ ...options, push }, new Random(Math.random, randomId), this._cell);
this._perform = perform;
this._advanced = advanced;
this._connections = new Map();
this._requests = new Map();
this._levels = new Map();
this.because = "";
this._timer = null;
this._closed = false;
}
open() {
this.handle({ event: "opened" });
}
close() {
if (this._closed) return;
this.handle({ event: "closed" });
this._closed = true;
clearTimeout(this._timer);
for (const controller of this._requests.values()) controller.abort();
}
handle(event) {
if (this._closed) return;
const now = this.clock.now();
const heldUp = now - this.machine.deadline() > LATE_S;
if ((this.clock.jumped() || heldUp) && event.event !== "jumped") this._take({ event: "jumped" }, now);
this._take(event, now);
clearTimeout(this._timer);
const { mode } = this.machine;
if (mode === "closed" || mode === "stopped") return;
const wait = Math.max((this.machine.deadline() - this.clock.now()) * 1000, 1);
this._timer = setTimeout(() => this._tick(), Math.min(wait, LOOK_MS));
}
hurry() {
this.machine.hurry();
this.handle({ event: "ticked" });
}
_tick() {
this.handle({ event: "ticked" });
}
_take(event, now) {
for (const action of this.machine.handle(event, now)) this._execute(action);
this._advanced(event.event === "arrived" ? event.message.op : event.event);
}
_execute(action) {
switch (action.do) {
case "send":
return this._send(action.conn, action.message);
case "connect":
return this._connect(action.conn, action.url);
case "disconnect":
this._connections.get(action.conn)?.socket.close(1000);
this._connections.delete(action.conn);
return;
case "send_poll":
return this._request(action, "/v1/poll", this._fit(action.url, action.message), (body) => ({
event: "poll_answered",
request: action.request,
message: fill({ ...body, op: "polled" }),
}));
case "send_publish":
return this._request(action, "/v1/publish", action.batch, ({ results }) => ({
event: "publish_answered",
request: action.request,
results,
}));
case "abandon":
this._requests.get(action.request)?.abort();
this._requests.delete(action.request);
return;
default:
this._perform(action);
}
}
_connect(conn, url) {
const socket = new this._WebSocket(`${url}/v1/ws`, [PROTOCOL]);
socket.binaryType = "arraybuffer";
const connection = { socket, opened: false };
this._connections.set(conn, connection);
const present = () => this._connections.get(conn) === connection;
socket.onopen = () => {
if (!present()) return socket.close(1000);
connection.opened = true;
this.handle({ event: "connected", conn });
};
socket.onmessage = ( { data }) => {
if (!present()) return;
try {
const message = fill(parse(typeof data === "string" ? data : new TextDecoder().decode(data)));
if (message?.op === "welcome") this._levels.set(url, message.level ?? 0);
if (message) this.handle({ event: "arrived", conn, message });
} catch (error) {
if (!(error instanceof SoftstateError || error instanceof SyntaxError)) throw error;
this._lose(conn, null, `the node sent a message that cannot be understood: ${error.message}`);
}
};
socket.onclose = ( { code, reason }) => {
if (!present()) return;
if (connection.opened) this._lose(conn, code === 1005 || code === 1006 ? null : code, reason);
else void this._failed(conn, url);
};
socket.onerror = () => {};
}
_send(conn, message) {
const socket = this._connections.get(conn)?.socket;
if (!socket) return;
socket.send(stringify(message));
if (socket.bufferedAmount > WAITING_BYTES_MAX) {
setTimeout(() => this._lose(conn, null, `${WAITING_BYTES_MAX} bytes wait to be written`));
}
}
_lose(conn, code, reason) {
const connection = this._connections.get(conn);
if (!connection) return;
this._connections.delete(conn);
connection.socket.close();
this.because = `the connection ended${code === null ? "" : ` with code ${code}`}${reason && `: ${reason}`}`;
this.handle({ event: "lost", conn, code, reason });
}
async _failed(conn, url) {
let event = { event: "connect_failed", conn, reason: "no WebSocket", status: null };
try {
const reply = await this._ask(`${http(url)}/v1/ws`, { signal: AbortSignal.timeout(WHY_MS) });
const { error, retry_ms } = await failureOf(reply);
const blocked = reply.status === 426 || reply.ok;
const reason = blocked ? "something between here and the node does not pass WebSocket" : error?.message;
const status = [401, 403, 404].includes(reply.status) ? reply.status : null;
event = { ...event, reason: reason ?? `HTTP status ${reply.status}`, status, retry_ms, error };
} catch (error) {
event.reason = reasonOf(error);
event.unsent = isUnsent(error);
}
if (!this._connections.delete(conn)) return;
this.because = `${url} takes no WebSocket: ${event.reason}`;
this.handle(event);
}
_fit(url, { op: _, wait_ms, ...body }) {
const knows = (this._levels.get(url) ?? 0) >= WAIT_LEVEL;
return knows && wait_ms !== undefined ? { ...body, wait_ms } : body;
}
_ask(url, { headers = {}, ...init }) {
const { token } = this._cell;
const authorization = token === null ? {} : { Authorization: `Bearer ${token}` };
const accepting = { Accept: "application/json", ...authorization, ...headers };
return this._fetch(url, { cache: "no-store", ...init, headers: accepting });
}
_request({ request, url }, path, body, answer) {
const controller = new AbortController();
this._requests.set(request, controller);
const init = {
method: "POST",
body: stringify(body),
headers: { "Content-Type": "application/json" },
signal: controller.signal,
};
void this._answerOf(url, path, init, request, answer).then((event) => {
if (this._requests.get(request) !== controller) return;
this._requests.delete(request);
if (event.reason) this.because = event.reason;
this.handle(event);
});
}
async _answerOf(node, path, init, request, answer) {
const failed = { event: "request_failed", request };
const url = http(node) + path;
try {
const reply = await this._ask(url, init);
this._levels.set(node, Number(reply.headers.get("Softstate-Level")) || 0);
if (reply.ok) return answer(parse(await reply.text()));
const { error, reason } = await failureOf(reply);
return { ...failed, reason, error };
} catch (error) {
const odd = error instanceof SyntaxError || error instanceof SoftstateError || error instanceof RangeError;
if (odd) return { ...failed, reason: `${url} answered what no node writes: a proxy or a login page may have` };
return { ...failed, reason: `${url} cannot be reached: ${reasonOf(error)}`, unsent: isUnsent(error) };
}
}
}
function isUnsent(error) {
return UNSENT.includes(error?.cause?.code);
}
async function failureOf(reply) {
const { status } = reply;
const after = reply.headers.get("Retry-After") ?? "";
const waits = /^\d{1,9}$/.test(after) ? Math.min(+after, RETRY_AFTER_S_MAX) * 1000 : null;
let body = null;
try {
body = parse(await reply.text());
} catch (error) {
if (!(error instanceof SyntaxError)) throw error;
}
if (body && isKnownCode(body.code)) {
const error = errorOf({ ...body, retry_ms: body.retry_ms ?? waits });
return { error, reason: error.message, retry_ms: error.retryMs };
}
const reason = `HTTP status ${status} without an error that softstate knows: a proxy may have answered`;
const code = { 401: "denied", 403: "denied", 429: "overloaded", 503: "unavailable" }[status];
const details = { retryMs: waits, why: code === "denied" ? "foreign" : null };
return { error: code ? new SoftstateError(code, reason, details) : null, reason, retry_ms: waits };
}
function pack({ code, message, retryMs, current, position, why }) {
return { code, message, retryMs, current, position, why };
}
function unpack({ code, message, ...details }) {
return new SoftstateError(code, message, details);
}
const EVENTS_MAX = 1000;
const TOKEN_TRY_MS = 5000;
const TOKEN_MS_MAX = 30_000;
const SILENT_MS_MAX = 600_000;
const CERTIFIES = ["beat", "renewed", "subscribed", "polled", "poll_answered", "welcome", "wanted", "unwanted", "jumped"];
class Tab {
constructor(port) {
this.port = port;
this.inboxes = new Map();
this.provider = false;
this.seq = 0;
this.anchor = [0, 0];
this.outstanding = false;
this.owed = true;
this.heard = 0;
}
}
class Engine {
constructor(means) {
this._means = means;
this._tabs = new Set();
this._byName = new Map();
this._publishes = new Map();
this._tickets = 0;
this._shell = null;
this._tokens = new Map();
}
attach(port) {
const tab = new Tab(port);
port.onmessage = ( { data }) => this._read(tab, data);
port.postMessage({ type: "ready" });
}
_read(tab, message) {
if (message.type === "open") return this._open(tab, message);
const shell = this._shell;
if (!shell || !this._tabs.has(tab)) return tab.port.postMessage({ type: "gone" });
tab.heard = Date.now();
switch (message.type) {
case "ack":
tab.outstanding = false;
tab.anchor = [message.seq, shell.clock.now()];
return this._flush(tab);
case "subscribe":
return this._subscribe(shell, tab, message);
case "unsubscribe":
return this._unsubscribe(shell, tab, message.id);
case "publish":
return this._publish(shell, tab, message);
case "token":
return this._tokenCame(message);
case "jumped":
return shell.handle({ event: "jumped" });
case "online":
return shell.hurry();
case "close":
return this._leave(tab);
}
}
_open(tab, { options, lock, provider }) {
if (this._shell?.machine.mode === "stopped") this._end();
if (!this._shell) {
const perform = ( action) => this._perform(action);
this._shell = new Shell(options, perform, (event) => this._advanced(event), this._means);
}
tab.provider = provider;
tab.anchor = [0, this._shell.clock.now()];
tab.outstanding = false;
tab.owed = true;
tab.heard = Date.now();
this._tabs.add(tab);
if (lock) navigator.locks?.request(lock, () => this._leave(tab));
if (this._shell.machine.mode === "closed") this._shell.open();
this._flush(tab);
}
_leave(tab) {
if (!this._tabs.delete(tab)) return;
if (this._shell) for (const id of [...tab.inboxes.keys()]) this._unsubscribe(this._shell, tab, id);
for (const number of this._tokens.keys()) this._askToken(number);
if (!this._tabs.size) this._end();
}
_end() {
this._shell?.close();
this._shell = null;
this._byName.clear();
for (const { timer } of this._tokens.values()) clearTimeout(timer);
this._tokens.clear();
}
_subscribe(shell, tab, { id, names, narrow }) {
const inbox = new Inbox(names, narrow);
tab.inboxes.set(id, inbox);
const fresh = [...inbox.names].filter((name) => !this._byName.has(name));
for (const name of inbox.names) {
this._hold(name, inbox);
for (const change of shell.machine.known(name)) {
if (change.version > 0 && !change.deleted) inbox.tell({ type: "change", ...change });
}
}
inbox.tell({ type: "unreadable", topics: shell.machine.unreadable([...inbox.names]) });
if (narrow) this._narrowing(shell);
if (fresh.length) shell.handle({ event: "wanted", names: fresh });
tab.owed = true;
this._flush(tab);
}
_unsubscribe(shell, tab, id) {
const inbox = tab.inboxes.get(id);
if (!inbox) return;
tab.inboxes.delete(id);
const freed = [];
for (const name of inbox.names) {
const holders = this._byName.get(name);
holders?.delete(inbox);
if (holders?.size !== 0) continue;
this._byName.delete(name);
freed.push(name);
}
if (inbox.narrow) this._narrowing(shell);
if (freed.length) shell.handle({ event: "unwanted", names: freed });
}
_narrowing(shell) {
const narrowing = this._inboxes().filter((inbox) => inbox.narrow);
const names = new Set(narrowing.flatMap((inbox) => [...inbox.names].filter(isPrefix)));
shell.handle({ event: "narrowing", names: [...names] });
}
_hold(name, inbox) {
const holders = this._byName.get(name);
if (holders) holders.add(inbox);
else this._byName.set(name, new Set([inbox]));
}
_inboxes() {
return [...this._tabs].flatMap((tab) => [...tab.inboxes.values()]);
}
_publish(shell, tab, { ticket: theirs, topic, value, deleted, expect, key }) {
const ticket = ++this._tickets;
this._publishes.set(ticket, { tab, ticket: theirs });
try {
const cbor_bytes = deleted ? 0 : sizeOf(value);
const wire_bytes = deleted ? 0 : utf8(stringify(value)).length;
shell.handle({ event: "publish_requested", ticket, topic, value, deleted, expect, key, cbor_bytes, wire_bytes });
} catch (error) {
if (!(error instanceof SoftstateError)) throw error;
this._settle(ticket, error);
}
}
_settle(ticket, outcome) {
const asked = this._publishes.get(ticket);
this._publishes.delete(ticket);
const failed = outcome instanceof SoftstateError;
const told = failed ? { error: pack(outcome) } : { version: outcome.version };
asked?.tab.port.postMessage({ type: "outcome", ticket: asked.ticket, ...told });
}
_perform(action) {
switch (action.do) {
case "deliver":
for (const change of action.changes) this._deliver(change);
return;
case "settled":
return this._settle(action.ticket, action.outcome);
case "reset":
return this._tell({ type: "reset", position: action.position });
case "mode_changed":
return this._tell({ type: "mode", mode: action.mode });
case "node_refused":
return this._tell({ type: "refused", url: action.url, error: pack(action.error) });
case "topics_unreadable":
return this._tell({ type: "unreadable", topics: action.topics });
case "names_denied":
return this._denied(action.names, action.narrow);
case "fetch_token":
this._tokens.set(action.number, {
asked: new Set(),
timer: null,
rejected: action.rejected,
attempt: action.attempt,
until: Date.now() + TOKEN_MS_MAX,
});
return this._askToken(action.number);
case "stopped":
for (const tab of this._tabs) tab.port.postMessage({ type: "stopped", error: pack(action.error) });
}
}
_deliver(change) {
const found = new Set();
for (const name of [change.topic, ...reaching(change.topic)]) {
for (const inbox of this._byName.get(name) ?? []) found.add(inbox);
}
for (const inbox of found) inbox.tell({ type: "change", ...change });
}
_tell(event) {
for (const inbox of this._inboxes()) inbox.tell(event);
for (const tab of this._tabs) tab.owed = true;
}
_denied(names, narrow) {
const told = new Map();
for (const name of names) {
for (const inbox of this._byName.get(name) ?? []) told.set(inbox, [...(told.get(inbox) ?? []), name]);
this._byName.delete(name);
}
const belowOf = ( name) => (Object.hasOwn(narrow, name) ? narrow[name] : []);
for (const [inbox, refused] of told) {
const silent = inbox.narrow && refused.every((name) => belowOf(name).length);
inbox.tell({ type: "denied", names: refused, below: refused.flatMap(belowOf), silent });
for (const name of inbox.names) this._hold(name, inbox);
}
}
_advanced(event) {
for (const tab of this._tabs) {
if (CERTIFIES.includes(event)) tab.owed = true;
if (tab.outstanding && Date.now() - tab.heard > SILENT_MS_MAX) this._leave(tab);
else this._flush(tab);
}
}
_flush(tab) {
const shell = this._shell;
if (!shell || tab.outstanding || !this._tabs.has(tab)) return;
const pending = [...tab.inboxes.values()].some((inbox) => inbox.size);
if (!tab.owed && !pending) return;
const clock = shell.clock.now();
const handles = [];
let room = EVENTS_MAX;
let whole = true;
for (const [id, inbox] of tab.inboxes) {
const events = [];
while (inbox.size && room-- > 0) events.push(inbox.take());
if (inbox.size) whole = false;
const age = inbox.size ? null : shell.machine.age(clock, inbox.names);
handles.push({ id, events, age, unreadable: shell.machine.unreadable([...inbox.names]) });
}
tab.owed = !whole;
tab.outstanding = true;
const { mode, position, lastError } = shell.machine;
const state = { mode, position, error: lastError && pack(lastError), because: shell.because };
tab.port.postMessage({ type: "update", seq: ++tab.seq, anchor: tab.anchor, clock, ...state, handles });
}
_askToken(number) {
const fetch = this._tokens.get(number);
if (!fetch) return;
clearTimeout(fetch.timer);
const tabs = [...this._tabs].filter((tab) => tab.provider).sort((one, other) => other.heard - one.heard);
const tab = tabs.find((each) => !fetch.asked.has(each));
if (tab) {
fetch.asked.add(tab);
tab.port.postMessage({ type: "token", number, rejected: fetch.rejected, attempt: fetch.attempt });
}
const left = fetch.until - Date.now();
if (left > 0) {
fetch.timer = setTimeout(() => this._askToken(number), Math.min(tab ? TOKEN_TRY_MS : left, left));
} else {
const text = `the token function returned nothing within ${TOKEN_MS_MAX / 1000} s`;
this._tokenCame({ number, error: pack(new SoftstateError("unavailable", text)) });
}
}
_tokenCame({ number, token, error, final = false }) {
const fetch = this._tokens.get(number);
if (!fetch) return;
clearTimeout(fetch.timer);
this._tokens.delete(number);
if (error) this._shell?.handle({ event: "token_failed", number, error: unpack(error), final });
else this._shell?.handle({ event: "token_got", number, token });
}
}
const scope =  (globalThis);
if (typeof scope.SharedWorkerGlobalScope === "function" && scope instanceof scope.SharedWorkerGlobalScope) {
const engine = new Engine();
scope.onconnect = ( { ports }) => engine.attach(ports[0]);
} else if (typeof scope.DedicatedWorkerGlobalScope === "function" && scope instanceof scope.DedicatedWorkerGlobalScope) {
new Engine().attach(scope);
}
export { Engine, Machine, Random };
