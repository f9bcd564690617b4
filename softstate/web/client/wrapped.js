/** Errors on their way between a tab and a worker: a copy by the browser would keep the message alone. */

import { SoftstateError } from "../machine/errors.js";

/**
 * @param {SoftstateError} error
 * @returns {any}
 */
export function pack({ code, message, retryMs, current, position, why }) {
  return { code, message, retryMs, current, position, why };
}

/**
 * @param {any} packed
 * @returns {SoftstateError}
 */
export function unpack({ code, message, ...details }) {
  return new SoftstateError(code, message, details);
}
