/** The browser of topics: it follows a topic or a prefix as any client does, and publishes where the rules allow it. */

import { duration, make, number, part, terms } from "./dom.js";
import { now } from "./nodes.js";
import { bar } from "./plot.js";

/** Topics listed at most: a longer list is no help, and takes long to draw. */
const SHOWN_MAX = 500;
/** Characters of a value in the list. */
const VALUE_CHARS = 200;
const BUSY_S = 60;
const BUSIEST = 10;
/** Changes kept for the count of the busiest: older ones go first. */
const CHANGES_MAX = 20_000;
const DRAW_MS = 250;

/** @param {any} value */
const text = (value, indent = 0) =>
  JSON.stringify(
    value,
    (_, item) => {
      if (typeof item === "bigint") return `${item} (an integer)`;
      return item instanceof Uint8Array ? { $bytes: btoa(String.fromCharCode(...item)) } : item;
    },
    indent,
  );

/**
 * Tell whether a pattern of the rules covers a topic: a prefix, or the topic itself.
 * @param {string[]} patterns
 * @param {string} topic
 */
export function mayWrite(patterns, topic) {
  const own = topic.startsWith("$");
  return patterns.some((each) => each === topic || (each.endsWith("/") && (each === "/" ? !own : topic.startsWith(each))));
}

export class Topics {
  /** @param {import("../softstate.js").Client} client */
  constructor(client) {
    this._client = client;
    /** @type {import("../softstate.js").Updates | null} */
    this._updates = null;
    /** @type {{topic: string, at: number}[]} */
    this._changes = [];
    /** @type {string | null} */
    this._open = null;
    /** @type {string[]} */
    this.writable = [];
    this._waits = false;
    this._rows = new Map();
    part("follow").onsubmit = (/** @type {Event} */ event) => {
      event.preventDefault();
      this.follow(part("prefix").value.trim());
    };
  }

  /** @param {string} name */
  follow(name) {
    this._updates?.close();
    this._updates = null;
    this._changes = [];
    this._rows.clear();
    part("topic-list").replaceChildren();
    this._show(null);
    try {
      this._updates = this._client.subscribe(name);
    } catch (error) {
      part("topics-note").textContent = /** @type {Error} */ (error).message;
      return;
    }
    part("topics-note").textContent = `asking for ${name} …`;
    const updates = this._updates;
    let listed = false; // the first answer lists what there is: nothing has changed yet
    updates.addEventListener("change", (/** @type {any} */ { detail }) => {
      if (listed) this._changes.push({ topic: detail.topic, at: now() });
      if (this._changes.length > CHANGES_MAX) this._changes.shift();
      if (detail.topic === this._open && !part("topic").contains(document.activeElement)) this._show(detail.topic);
      this._draw();
    });
    updates.addEventListener("reset", () => this._draw());
    updates.addEventListener("denied", (/** @type {any} */ { detail }) => {
      const { below } = detail;
      const instead = below.length ? `you may read ${below.join(", ")}` : "the rules of this node would have to grant it";
      part("topics-note").textContent = `${name} may not be read with this token: ${instead}`;
    });
    updates.addEventListener("age", () => {
      listed = true;
      this._draw();
    });
  }

  /** Close what is followed. */
  end() {
    this._updates?.close();
  }

  /** Show how old all this is; called twice a second. */
  tick() {
    const age = this._updates?.age ?? Infinity;
    part("topics-age").textContent = this._updates ? `${this._client.mode}; at most ${duration(age)} old` : "";
    const since = now() - BUSY_S;
    const gone = this._changes.findIndex(({ at }) => at >= since);
    if (gone !== 0) {
      this._changes.splice(0, gone < 0 ? this._changes.length : gone);
      this._busiest();
    }
  }

  /** Draw soon, and not more often than it can be read. */
  _draw() {
    if (this._waits) return;
    this._waits = true;
    setTimeout(() => {
      this._waits = false;
      this._list();
      this._busiest();
    }, DRAW_MS);
  }

  _list() {
    const known = this._updates?.snapshot();
    if (!known || !this._updates) return;
    const topics = [...known.keys()].sort();
    if (this._updates.age < Infinity && !this._updates.denied.length) {
      const more = topics.length > SHOWN_MAX ? `, the first ${SHOWN_MAX} of which are listed: follow a longer prefix` : "";
      part("topics-note").textContent = `${number(topics.length)} topics${more}`;
    }
    const rows = topics.slice(0, SHOWN_MAX).map((topic) => this._row(topic, known.get(topic)));
    for (const topic of this._rows.keys()) if (!known.has(topic)) this._rows.delete(topic);
    const body = part("topic-list").querySelector("tbody");
    if (body) {
      const present = [...body.children];
      if (present.length !== rows.length || rows.some((row, i) => row !== present[i])) body.replaceChildren(...rows);
      return;
    }
    const head = make("tr", {}, ...["topic", "version", "value"].map((each) => make("th", { scope: "col" }, each)));
    part("topic-list").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  }

  /**
   * Return the row of a topic: the same one as before, so that the focus stays where it is.
   * @param {string} topic
   * @param {any} change
   */
  _row(topic, change) {
    const kept = this._rows.get(topic);
    const row = kept ?? make("tr", {});
    if (!kept) {
      const button = make("button", { class: "topic-name", title: topic }, topic);
      button.onclick = () => {
        this._show(topic);
        part("topic").scrollIntoView({ block: "nearest" });
        part("topic").querySelector("h3").focus();
      };
      row.append(make("td", {}, button), make("td"), make("td", { class: "topic-name" }));
      this._rows.set(topic, row);
    }
    if (row.dataset.version === String(change.version)) return row;
    row.dataset.version = String(change.version);
    row.children[1].textContent = String(change.version);
    row.children[2].textContent = (text(change.value) ?? "").slice(0, VALUE_CHARS);
    return row;
  }

  _busiest() {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const { topic } of this._changes) counts.set(topic, (counts.get(topic) ?? 0) + 1);
    const busiest = [...counts].sort((one, other) => other[1] - one[1]).slice(0, BUSIEST);
    const most = busiest[0]?.[1] ?? 1;
    const lines = busiest.map(([topic, count]) => {
      const name = make("span", { class: "topic-name" }, topic);
      return make("li", {}, name, make("span", {}, number(count)), bar([["count", count]], most));
    });
    part("busiest").replaceChildren(...(lines.length ? lines : [make("li", {}, "none has changed")]));
  }

  /** @param {string | null} topic */
  _show(topic) {
    this._open = topic;
    const shown = part("topic");
    shown.hidden = topic === null;
    if (topic === null) return shown.replaceChildren();
    const change = this._updates?.get(topic);
    const position = this._client.position;
    const rows = terms([
      ["version", change ? String(change.version) : "deleted"],
      position && ["position", make("code", {}, `${position.epoch.slice(0, 8)} / ${position.lineage.slice(0, 8)} at ${position.revision}`)],
    ]);
    const close = make("button", { type: "button" }, "Close");
    close.onclick = () => {
      this._show(null);
      this._rows.get(topic)?.querySelector("button").focus();
    };
    const children = [
      make("h3", { class: "topic-name", tabindex: -1 }, topic),
      make("dl", {}, ...rows),
      make("pre", {}, change ? text(change.value, 2) : ""),
      ...(mayWrite(this.writable, topic) ? [this._editor(topic, change)] : [make("p", {}, "This token may not publish it.")]),
      close,
    ];
    shown.replaceChildren(...children);
  }

  /**
   * Return a form that publishes, if the topic is still at the version that is shown.
   * @param {string} topic
   * @param {any} change
   */
  _editor(topic, change) {
    const label = make("label", { for: "value" }, "Value, as JSON; published if the version is still this one");
    const value = /** @type {HTMLTextAreaElement} */ (make("textarea", { id: "value", rows: 4, spellcheck: "false" }));
    value.value = change ? (text(change.value, 2) ?? "") : "";
    const told = make("p", { role: "status" });
    const publish = make("button", {}, "Publish");
    const remove = make("button", { type: "button" }, "Delete");
    const expect = change?.version ?? 0;
    const act = async (/** @type {() => Promise<number>} */ call, /** @type {string} */ done) => {
      told.className = "";
      told.textContent = "sent …";
      try {
        const version = await call();
        this._show(topic);
        part("topic").querySelector("[role=status]").textContent = `${done}, version ${version}`;
      } catch (error) {
        told.className = "problem";
        told.textContent = /** @type {Error} */ (error).message;
      }
    };
    const form = make("form", {}, label, value, make("div", { class: "row" }, publish, remove), told);
    form.onsubmit = (event) => {
      event.preventDefault();
      void act(async () => this._client.publish(topic, JSON.parse(value.value), { expect }), "published");
    };
    remove.onclick = () => {
      if (confirm(`Delete ${topic}?`)) void act(() => this._client.delete(topic, { expect }), "deleted");
    };
    return form;
  }
}
