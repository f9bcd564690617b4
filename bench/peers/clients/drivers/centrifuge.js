/** centrifuge-js with Centrifugo's cache mode: `since: {}` asks for the latest publication, as its documentation says. */
"use strict";
const { drive, library, port, topics } = require("./common.js");
const { Centrifuge } = library("centrifuge");
const WebSocket = library("ws");

drive((application) => {
  const client = new Centrifuge(`ws://127.0.0.1:${port}/connection/websocket`, { websocket: WebSocket });
  client.on("connecting", ({ reason }) => application.isTold(`connecting: ${reason}`, false));
  client.on("connected", () => application.isTold("connected"));
  client.on("disconnected", ({ reason }) => application.isTold(`disconnected: ${reason}`, false));
  client.on("error", ({ error }) => application.isTold(`error: ${error.message}`));
  const live = topics.map((topic) => {
    const subscription = client.newSubscription(`state:${topic}`, { since: {} });
    subscription.on("publication", ({ data }) => application.holds(topic, data));
    subscription.on("subscribing", ({ reason }) => application.isTold(`subscribing: ${reason}`, false, topic));
    subscription.on("subscribed", ({ wasRecovering, recovered }) => {
      const known = !wasRecovering || recovered;
      application.isTold(`subscribed${wasRecovering ? `, recovered: ${recovered}` : ""}`, known, topic);
    });
    subscription.subscribe();
    return new Promise((resolve) => subscription.once("subscribed", resolve));
  });
  client.connect();
  return Promise.all(live);
});
