/** The one class of errors of this client; `code` tells them apart, also when they come out of a worker. */

/**
 * @typedef {{epoch: string, lineage: string, revision: number}} Position a point of the store's history
 * @typedef {{retryMs?: number | null, current?: number | null, position?: Position | null, why?: string | null}} Details
 */

/** Every code that a node answers with. */
const CODES = new Set(
  (
    "invalid unsupported unauthenticated denied not_found conflict key_reused no_lease compacted rewound too_large " +
    "unreadable overloaded unavailable behind"
  ).split(" "),
);

/**
 * An error that softstate throws on purpose. Its message says what happened and what to do.
 *
 * `code` is a node's code (`conflict`, `denied`, …), or one of this client: `outcome_unknown` (a publish may have been
 * applied: read the topic), `client_closed`, `stale` (nothing young enough is known: `age` says how old it is).
 */
export class SoftstateError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {Details} [details]
   */
  constructor(code, message, details = {}) {
    super(message);
    this.name = "SoftstateError";
    this.code = code;
    /** How long to wait before trying again, in milliseconds. */
    this.retryMs = details.retryMs ?? null;
    /** The version that won a compare-and-set. */
    this.current = details.current ?? null;
    /** Where the store stands now. */
    this.position = details.position ?? null;
    /** The check that failed, where one code stands for several. */
    this.why = details.why ?? null;
    /** Of `stale`: the age in seconds of what is known, Infinity if nothing can be proved. */
    this.age = Infinity;
  }
}

/**
 * Build the error that a node answered with; an unknown code gives one that names it.
 * @param {{code: string, message?: string, retry_ms?: number | null, current?: number | null,
 *   position?: Position | null, why?: string | null}} answer
 * @returns {SoftstateError}
 */
export function errorOf({ code, message = "", retry_ms, current, position, why }) {
  const details = { retryMs: retry_ms, current, position, why };
  return CODES.has(code)
    ? new SoftstateError(code, message, details)
    : new SoftstateError("error", `${code}: ${message}`, details);
}

/**
 * @param {string} code
 * @returns {boolean} whether this version knows a code
 */
export function isKnownCode(code) {
  return CODES.has(code);
}
