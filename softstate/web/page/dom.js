/** Elements made from data: text goes in as text, never as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, string | number>} [attributes] `data-…`, `class`, `title` and so on
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * Make an element of SVG.
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {...Node} children
 * @returns {SVGElement}
 */
export function draw(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * Return an element of the page that is surely there.
 * @param {string} id
 * @returns {any}
 */
export const part = (id) => document.getElementById(id);

/**
 * List terms and what belongs to each; null leaves a row out.
 * @param {([string, Node | string] | null)[]} rows
 * @returns {Node[]}
 */
export function terms(rows) {
  return rows.flatMap((row) => (row ? [make("dt", {}, row[0]), make("dd", {}, row[1])] : []));
}

/** @param {number | null | undefined} count */
export const number = (count) => (count == null ? "unknown" : Math.round(count).toLocaleString("en"));

/** @param {number | null | undefined} bytes */
export function size(bytes) {
  if (bytes == null) return "unknown";
  const step = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), 4);
  return `${(bytes / 1024 ** step).toFixed(step ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB"][step]}`;
}

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds == null || seconds === Infinity) return "unknown";
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}
