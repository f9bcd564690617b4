/** The page of a node: what it and the nodes beside it tell of themselves, and the topics, each with its age. */

import { connect } from "../softstate.js";
import { duration, make, number, part } from "./dom.js";
import { Nodes, STALE_S, ageOf, card, clients, silentCard, stateOf, store } from "./nodes.js";
import { Topics } from "./topics.js";

const TICK_MS = 500;
/** More topics are not followed until somebody says which. */
const FOLLOWED_MAX = 2000;

const base = new URL("..", import.meta.url);
const others = document.querySelector('meta[name="nodes"]')?.getAttribute("content")?.split(" ").filter(Boolean) ?? [];
const urls = [base, ...others.map((each) => new URL(each.replace(/\/*$/, "/")))];

/** @type {Topics | null} */
let topics = null;
/** @type {import("../softstate.js").Client | null} */
let client = null;
let follows = false;

const nodes = new Nodes(urls, drawAll, (why) => {
  part("sign-in-why").textContent = why;
  part("sign-in").hidden = false;
  part("token").focus();
});

part("sign-in").onsubmit = (/** @type {Event} */ event) => {
  event.preventDefault();
  nodes.token = part("token").value.trim();
  part("token").value = "";
  part("sign-in").hidden = true;
  nodes.held = false;
  begin();
};

/** Connect a client of softstate, with the token that was given, if there is one. */
function begin() {
  topics?.end();
  client?.close();
  follows = false;
  client = connect(base.href, { maxAge: STALE_S, name: "page", worker: "dedicated", ...(nodes.token && { token: nodes.token }) });
  topics = new Topics(client);
  client.addEventListener("error", (/** @type {any} */ { detail }) => (part("topics-note").textContent = detail.message));
  void rights(topics);
}

/**
 * Learn which topics may be published.
 * @param {Topics} asking for them: another token may have been given by the time of the answer
 */
async function rights(asking) {
  const headers = { Accept: "application/json", ...(nodes.token && { Authorization: `Bearer ${nodes.token}` }) };
  try {
    const reply = await fetch(new URL("v1/whoami", base), { headers });
    if (reply.ok) asking.writable = (await reply.json()).write;
  } catch {
    // Nothing may be published then; the nodes' own lines say that there is no answer.
  }
}

function drawAll() {
  const all = nodes.all();
  const silent = urls.map(({ href }) => href).filter((href) => !all.some(({ url }) => url === href));
  const cards = [...all.map(card), ...silent.map((href) => silentCard(href, nodes.problems.get(href) || "asking …"))];
  part("nodes").replaceChildren(...cards);
  const fresh = all.filter((known) => ageOf(known) <= STALE_S);
  const newest = [...all].sort((one, other) => ageOf(one) - ageOf(other))[0];
  if (fresh.length) part("clients").replaceChildren(...clients(fresh));
  if (newest) part("store").replaceChildren(...store(newest));
  if (newest && !topics) begin();
  if (topics && newest && !follows) {
    follows = true;
    if (newest.status.topics <= FOLLOWED_MAX) topics.follow("/");
    else part("topics-note").textContent = `${number(newest.status.topics)} topics: say which to follow`;
  }
  tick();
}

/** Show how old everything is, whether or not anything comes. */
function tick() {
  const all = [...nodes.known.values()];
  for (const known of all) {
    const id = CSS.escape(known.status.node);
    const age = document.querySelector(`[data-age-of="${id}"]`);
    if (age) age.textContent = `as of ${duration(ageOf(known))} ago`;
    const shown = /** @type {HTMLElement | null} */ (document.querySelector(`[data-node="${id}"]`));
    const [state, text] = stateOf(known);
    if (!shown || shown.dataset.state === state) continue;
    shown.dataset.state = state;
    const word = /** @type {HTMLElement} */ (shown.querySelector(".state"));
    word.dataset.state = state;
    word.textContent = text;
  }
  const ages = all.map(ageOf).sort((one, other) => one - other);
  part("store-age").textContent = all.length ? `as of ${duration(ages[0])} ago` : "";
  const stale = ages.filter((age) => age > STALE_S).length;
  const fresh = all.filter((known) => ageOf(known) <= STALE_S);
  part("clients-age").textContent = fresh.length ? `as of ${duration(Math.max(...fresh.map(ageOf)))} ago` : "no node answers";
  const told = all.length ? `${all.length - stale} of ${all.length} nodes answer` : "no node has answered yet";
  const [url, problem] = [...nodes.problems].find(([, text]) => text) ?? [];
  const words = url && `; ${new URL(url).host}: ${problem}`;
  part("summary").replaceChildren(told, ...(words ? [make("span", { class: "problem" }, words)] : []));
  topics?.tick();
}

nodes.begin();
setInterval(tick, TICK_MS);
