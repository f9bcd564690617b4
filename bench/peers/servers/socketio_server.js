// The server that a user of Socket.IO would write. usage: node socketio_server.js FOLDER PORT PINGS
//
// FOLDER has node_modules. `subscribe` (topics) joins rooms, `publish` (topic, value) emits `change` to the room; both
// are acknowledged. Nothing is stored. As its pages on performance tuning and on memory usage advise, bufferutil is
// installed, and the first request of a connection is let go. PINGS is 0 for a ping every hour, else the default.
"use strict";
const { createRequire } = require("node:module");
const { createServer } = require("node:http");
const [folder, port, pings] = process.argv.slice(2);
const { Server } = createRequire(folder + "/")("socket.io");

const http = createServer();
const hour = { pingInterval: 3_600_000, pingTimeout: 3_600_000 };
const io = new Server(http, { cors: { origin: "*" }, ...(pings === "0" ? hour : {}) });
io.engine.on("connection", (raw) => { raw.request = null; });

io.on("connection", (socket) => {
  socket.on("subscribe", (topics, done) => {
    socket.join(topics);
    done();
  });
  socket.on("publish", (topic, value, done) => {
    io.to(topic).emit("change", topic, value);
    done();
  });
});
http.listen({ host: "127.0.0.1", port: Number(port), backlog: 4096 });
