/** socket.io-client: subscribes whenever it is told `connect`; the server answers with its state. */
"use strict";
const { drive, library, port, topics } = require("./common.js");
const { io } = library("socket.io-client");

drive(
  (application) =>
    new Promise((resolve) => {
      // Each has a connection of its own, as in a process of its own.
      const socket = io(`http://127.0.0.1:${port}`, { forceNew: true });
      socket.on("connect", () => {
        application.isTold("connect", true);
        socket.emit("subscribe", topics, resolve);
      });
      socket.on("disconnect", (reason) => application.isTold(`disconnect: ${reason}`, false));
      socket.on("connect_error", (error) => application.isTold(`connect_error: ${error.message}`, false));
      socket.on("change", (topic, value) => application.holds(topic, value));
    }),
);
