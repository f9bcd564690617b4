/** nats.js 3: a watch of a whole bucket. */
"use strict";
const { drive, library, port } = require("./common.js");
const { connect } = library("@nats-io/transport-node");
const { Kvm } = library("@nats-io/kv");

/** Whether what it holds is current, by what a connection tells. */
const CURRENT = { disconnect: false, reconnecting: false, staleConnection: false, reconnect: true };

drive(async (application) => {
  const connection = await connect({ servers: `127.0.0.1:${port}` });
  void tell(application, connection);
  connection.closed().then((error) => application.isTold(`closed: ${error?.message ?? "no error"}`, false));
  const bucket = await new Kvm(connection).open("state");
  void follow(application, await bucket.watch());
});

async function tell(application, connection) {
  for await (const { type } of connection.status()) application.isTold(type, CURRENT[type] ?? null);
}

async function follow(application, watch) {
  try {
    for await (const entry of watch) application.holds(entry.key, Number(entry.string()));
    application.isTold("the watch ended", false);
  } catch (error) {
    application.isTold(`the watch failed: ${error.message}`, false);
  }
}
