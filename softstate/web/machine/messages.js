/**
 * Messages of nodes: what each has to have, and what it is without a field that may be missing.
 *
 * A field is written `name:kind`, with `?` if it may be missing. Kinds: s text, n number, b boolean, p position,
 * a list, t list of texts, o object, v anything, i the id of a request; P, R and L: advice and limits.
 */

import { SoftstateError } from "./errors.js";

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
    return [op, fields.map((field) => /** @type {string[]} */ (field.match(/^(\w+)(\??):(\w)$/)).slice(1))];
  }),
);

/**
 * @param {string} names of fields
 * @returns {(value: any) => boolean} whether a value has all of them, as numbers
 */
const fieldsOf = (names) => (value) => IS.o(value) && names.split(" ").every((name) => IS.n(value[name]));

/** @type {Record<string, (value: any) => boolean>} */
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

/** Fields that are 0, and not null, when they are missing: they count something. */
const ZERO = ["lag_ms", "beat_ms", "version", "held_ms"];

/** @type {Record<string, () => any>} */
const EMPTY = { a: () => [], t: () => [], o: () => ({}), b: () => false };

/**
 * Check a message of a node, and fill in what it leaves out. Throws `invalid`; returns null for an operation of a later
 * protocol, which by its rules cannot matter to this client.
 * @param {any} message
 * @returns {any}
 */
export function fill(message) {
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

/**
 * @param {any} change
 * @returns {import("./known.js").Change}
 */
function changeOf(change) {
  const { topic, version, value = null, deleted = false } = change;
  if (!IS.s(topic) || !IS.n(version)) {
    throw new SoftstateError("invalid", "the node sent a change without a topic or a version");
  }
  return { topic, version, value, deleted };
}
