/** Values and JSON: 64-bit integers as BigInt where a number would change them, bytes as Uint8Array. */

import { SoftstateError } from "../machine/errors.js";
import { utf8 } from "../machine/names.js";

/** Deepest nesting of lists and maps in a value. */
const DEPTH_MAX = 32;

/** Stands in a text for something that JSON.parse or JSON.stringify cannot carry; no text begins so but by guessing. */
const MARK = `\u{e000}${Math.random().toString(36).slice(2)}:`;
const MARKED = new RegExp(`"${MARK}([^"]*)"`, "g");
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;

/**
 * Read a JSON text of a node. Throws SyntaxError.
 * @param {string} text
 * @returns {any}
 */
export function parse(text) {
  const long = /\d{16}/.test(text);
  if (long) {
    text = text.replace(TOKEN, (token) =>
      /^-?\d{16,}$/.test(token) && !Number.isSafeInteger(+token) ? `"${MARK}${token}"` : token,
    );
  }
  return long || text.includes('"$bytes"') || text.includes("\\u") ? JSON.parse(text, revive) : JSON.parse(text);
}

/**
 * @param {string} _
 * @param {any} value
 */
function revive(_, value) {
  if (typeof value === "string") return value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value;
  if (typeof value !== "object" || value === null || typeof value.$bytes !== "string") return value;
  return Object.keys(value).length === 1 ? Uint8Array.from(atob(value.$bytes), (char) => char.charCodeAt(0)) : value;
}

/**
 * Write a message or a value that was checked.
 * @param {any} value
 * @returns {string}
 */
export function stringify(value) {
  let marked = false;
  const text = JSON.stringify(value, (_, item) => {
    if (item instanceof Uint8Array) return { $bytes: btoa(String.fromCharCode(...item)) };
    const unsafe = typeof item === "number" && Number.isInteger(item) && !Number.isSafeInteger(item);
    if (typeof item !== "bigint" && !unsafe) return item;
    marked = true;
    return MARK + (unsafe ? item.toExponential() : item); // a number of JavaScript is a float
  });
  return marked ? text.replace(MARKED, "$1") : text;
}

/** @param {number} size how many bytes CBOR takes to write a size, or a number of that magnitude */
const head = (size) => (size < 24 ? 1 : size < 256 ? 2 : size < 65_536 ? 3 : size < 2 ** 32 ? 5 : 9);

/**
 * Check what an application publishes; return how many bytes it has as CBOR. Throws `invalid`, naming the place.
 * @param {any} value
 * @param {string} [at]
 * @param {number} [depth]
 * @returns {number}
 */
export function sizeOf(value, at = "value", depth = 0) {
  const wrong = (/** @type {string} */ why) => new SoftstateError("invalid", `${at} ${why}`);
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
