"""The nodes of the page: which refusals ask for another token."""

from __future__ import annotations

from tests.kit.node_js import WEB, evaluate

LATE = """async () => {
  const answers = [];
  globalThis.fetch = () => new Promise((resolve) => answers.push(resolve));
  const refused = { ok: false, status: 401, json: async () => ({ message: "give a token" }) };
  const asked = [];
  const urls = [new URL("http://a/"), new URL("http://b/")];
  const nodes = new Nodes(urls, () => {}, (why) => asked.push(why));
  nodes.begin();
  const settled = () => new Promise((resolve) => setTimeout(resolve, 0));
  answers[0](refused);
  await settled();
  const heldFirst = nodes.held;
  nodes.token = "root";  // somebody gives one, while the other node is still to refuse the request without
  nodes.held = false;
  answers[1](refused);
  await settled();
  console.log(JSON.stringify([heldFirst, nodes.held, asked]));
  process.exit();
}"""


def test_a_refusal_of_the_token_of_before_asks_for_no_other() -> None:
    found = evaluate(WEB, 'import { Nodes } from "./page/nodes.js";', LATE, None)
    assert found == [True, False, ["give a token"]]
