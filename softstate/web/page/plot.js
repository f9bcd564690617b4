/** Small plots, as SVG: a curve of the last minutes, and bars of parts. */

import { draw, make } from "./dom.js";

const WIDTH = 120;
const HEIGHT = 32;

/** @typedef {{at: number, value: number}} Sample a value, and the second it is of */

/**
 * Draw a curve, which ends now; a pause between two samples that is too long leaves a gap. Words for those who do not
 * see it go with it.
 * @param {string} label what is plotted
 * @param {Sample[]} samples the oldest first
 * @param {{now: number, span: number, pause: number}} time seconds; how many fill the width, and make a gap
 * @param {(value: number) => string} text
 * @returns {HTMLElement}
 */
export function curve(label, samples, { now, span, pause }, text) {
  const top = Math.max(...samples.map(({ value }) => value), 0);
  let path = "";
  let before = -Infinity;
  for (const { at, value } of samples) {
    const x = WIDTH * (1 - (now - at) / span);
    const y = HEIGHT - 2 - (value / (top || 1)) * (HEIGHT - 4);
    path += `${at - before > pause ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
    before = at;
  }
  const shown = samples.length ? text(samples[samples.length - 1].value) : "unknown";
  const words = `${label}: ${shown} now, ${samples.length ? text(top) : "unknown"} at most`;
  const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": words };
  const floor = draw("line", { class: "floor", x1: 0, x2: WIDTH, y1: HEIGHT - 1, y2: HEIGHT - 1 });
  const drawn = draw("svg", box, floor, draw("path", { class: "curve", d: path || "M0 0" }));
  return make("figure", {}, make("figcaption", {}, `${label} `, make("b", {}, shown)), drawn);
}

/**
 * Draw a bar of parts, each as wide as its share.
 * @param {[name: string, count: number][]} parts
 * @param {number} [whole]
 * @returns {SVGElement}
 */
export function bar(parts, whole = parts.reduce((sum, [, count]) => sum + count, 0)) {
  let at = 0;
  const drawn = parts.map(([name, count]) => {
    const width = whole ? (count / whole) * WIDTH : 0;
    at += width;
    return draw("rect", { class: name, x: at - width, y: 0, width, height: 8 });
  });
  const words = parts.map(([name, count]) => `${name} ${count}`).join(", ");
  return draw("svg", { class: "bar", viewBox: `0 0 ${WIDTH} 8`, preserveAspectRatio: "none", role: "img", "aria-label": words }, ...drawn);
}
