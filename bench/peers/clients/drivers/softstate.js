/** softstate.js, from a folder of what nodes serve. */
"use strict";
const { pathToFileURL } = require("node:url");
const { drive, folder, port, topics } = require("./common.js");

const module_ = import(pathToFileURL(`${folder}/softstate.js`));

drive(async (application) => {
  const { connect } = await module_;
  const client = connect(`ws://127.0.0.1:${port}`, { worker: "page" });
  const updates = client.subscribe("state/");
  const look = () => {
    for (const topic of topics) {
      const change = updates.get(`state/${topic}`);
      if (change) application.holds(topic, change.value);
    }
  };
  updates.addEventListener("change", look);
  client.addEventListener("mode", () => application.isTold(`mode ${client.mode}`, client.mode === "live"));
  await updates.fresh();
  while (client.mode !== "live") await new Promise((resolve) => client.addEventListener("mode", resolve, { once: true }));
  application.age = () => {
    look();
    return updates.age;
  };
});
