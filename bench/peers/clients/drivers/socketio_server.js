/**
 * A server of Socket.IO that keeps the newest values in memory, and sends them to who subscribes, as its documentation
 * advises for clients that were away. usage: node socketio_server.js FOLDER PORT PINGS; PINGS is not looked at.
 * `POST /TOPIC` with a number as its body publishes.
 */
"use strict";
const { createRequire } = require("node:module");
const { createServer } = require("node:http");
const [folder, port] = process.argv.slice(2);
const { Server } = createRequire(`${folder}/`)("socket.io");

const newest = new Map();
const http = createServer((request, response) => {
  let body = "";
  request.on("data", (data) => (body += data));
  request.on("end", () => {
    const topic = request.url.slice(1);
    newest.set(topic, Number(body));
    io.to(topic).emit("change", topic, Number(body));
    response.end("published");
  });
});
const io = new Server(http);
io.on("connection", (socket) => {
  socket.on("subscribe", (topics, done) => {
    socket.join(topics);
    for (const topic of topics) if (newest.has(topic)) socket.emit("change", topic, newest.get(topic));
    done();
  });
});
http.listen({ host: "127.0.0.1", port: Number(port), backlog: 4096 });
