/** Names: topics, and prefixes, which end in "/". "/" stands for every topic but those that begin with "$". */

import { SoftstateError } from "./errors.js";

export const ALL = "/";
export const SPELT = "$";

/** Longest topic, in bytes of UTF-8. */
const TOPIC_BYTES_MAX = 255;

const encoder = new TextEncoder();

/**
 * @param {string} text
 * @returns {Uint8Array}
 */
export function utf8(text) {
  return encoder.encode(text);
}

/**
 * @param {string} name
 * @returns {boolean}
 */
export function isPrefix(name) {
  return name.endsWith("/");
}

/**
 * List every prefix of which a subscription covers a topic, the widest first.
 * @param {string} topic
 * @returns {string[]}
 */
export function reaching(topic) {
  const found = topic[0] === SPELT ? [] : [ALL];
  for (let at = topic.indexOf("/"); at >= 0; at = topic.indexOf("/", at + 1)) found.push(topic.slice(0, at + 1));
  return found;
}

/**
 * Tell whether a subscription to one of `names` covers `topic`.
 * @param {{has(name: string): boolean}} names
 * @param {string} topic
 * @returns {boolean}
 */
export function covered(names, topic) {
  return names.has(topic) || reaching(topic).some((prefix) => names.has(prefix));
}

/**
 * Return `name` if it is a valid topic, or a valid prefix where one is allowed; else throw, naming `field` and the rule.
 * @param {unknown} name
 * @param {string} field
 * @param {boolean} [prefixes]
 * @returns {string}
 */
export function checkName(name, field, prefixes = false) {
  const wrong = (/** @type {string} */ rule) => new SoftstateError("invalid", `${field} must ${rule}`);
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
