// The server that a user of the `ws` package would write. usage: node ws_server.js FOLDER PORT PINGS
//
// FOLDER has node_modules. Text messages: `subscribe TOPIC...` is answered `subscribed`; `publish TOPIC VALUE` is sent
// to the topic's subscribers, the value alone, and answered `published`. Nothing is stored. `ws` sends no pings of its
// own, so PINGS is without effect.
"use strict";
const { createRequire } = require("node:module");
const [folder, port] = process.argv.slice(2);
const { WebSocketServer } = createRequire(folder + "/")("ws");

const topics = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(port), backlog: 4096, perMessageDeflate: false });

server.on("connection", (socket) => {
  const followed = [];
  socket.on("error", () => {});
  socket.on("close", () => followed.forEach((topic) => topics.get(topic).delete(socket)));
  socket.on("message", (data) => {
    const [word, ...rest] = data.toString().split(" ");
    if (word === "subscribe") {
      for (const topic of rest) {
        if (!topics.has(topic)) topics.set(topic, new Set());
        topics.get(topic).add(socket);
        followed.push(topic);
      }
      socket.send("subscribed");
    } else {
      for (const other of topics.get(rest[0]) ?? []) {
        if (other.readyState === socket.OPEN) other.send(rest[1]);
      }
      socket.send("published");
    }
  });
});
