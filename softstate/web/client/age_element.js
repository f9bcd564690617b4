/**
 * `<soft-age for="prices/" warn="5">`: shows how old what is known of a name may be, and keeps that up to date.
 *
 * `data-state` is `fresh`, `stale` (older than `warn` seconds) or `unknown`, for style sheets. It follows the name with
 * the client of its property `client`, else with the one that `connect` made first on this page.
 */

/** @type {import("./client.js").Client[]} clients of this page, the first one made first */
export const clients = [];

const SHOWN_EVERY_MS = 500;
const WARN_S = 5;

/** @param {number} age in seconds */
export function ageText(age) {
  if (age === Infinity) return "unknown";
  if (age < 10) return `${age.toFixed(1)} s`;
  return age < 120 ? `${Math.round(age)} s` : `${Math.round(age / 60)} min`;
}

/** Define the element, where there are elements. */
export function defineAge() {
  const { HTMLElement: Base, customElements } = /** @type {any} */ (globalThis);
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
        this._updates = client && name && !["closed", "stopped"].includes(client.mode) ? client.subscribe(name) : null;
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
