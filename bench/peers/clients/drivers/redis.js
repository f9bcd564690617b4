/**
 * node-redis: reads what is there (GET), and follows what is published. With the option `again`, the application reads
 * again whenever it is told `ready`; the library alone only subscribes again.
 */
"use strict";
const { drive, library, option, port, topics } = require("./common.js");
const { createClient } = library("redis");

drive(async (application) => {
  const client = createClient({ url: `redis://127.0.0.1:${port}` });
  const read = async () => {
    const values = await client.mGet(topics.map((topic) => `state:${topic}`));
    topics.forEach((topic, index) => values[index] !== null && application.holds(topic, Number(values[index])));
  };
  client.on("error", (error) => application.isTold(`error: ${error.code ?? error.message}`, false));
  client.on("reconnecting", () => application.isTold("reconnecting", false));
  client.on("end", () => application.isTold("end", false));
  let first = true;
  client.on("ready", () => {
    if (option !== "again" || first) return application.isTold("ready", true);
    application.isTold("ready");
    read().then(() => application.isTold("read again", true), (error) => application.isTold(`error: ${error.message}`));
  });
  await client.connect();
  first = false;
  const names = topics.map((topic) => `state:${topic}`);
  await client.subscribe(names, (message, name) => application.holds(name.slice("state:".length), Number(message)));
  await read();
});
