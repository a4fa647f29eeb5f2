// The stock SDK against a server that asks an application, which stands in this file.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { Centrifuge } from "centrifuge";
import { Centrifuge as ProtobufCentrifuge } from "centrifuge/build/protobuf";
import WebSocket from "ws";

import { Server, seconds } from "./server.mjs";

const EVENTS = ["connect", "refresh", "subscribe", "publish", "rpc", "message", "disconnected"];

// Payloads of Protobuf clients are bytes; these are JSON all the same.
const answers = {
  "/connect": ({ data }) => {
    if (data?.name !== "ann") return { disconnect: { code: 4501, reason: "who are you?" } };
    return { result: { user: "ann", expire_at: seconds(1), data: { hello: "ann" } } };
  },
  "/refresh": () => ({ result: { expire_at: seconds(3600) } }),
  "/subscribe": ({ channel }) =>
    channel === "asks:closed" ? { error: { code: 403, message: "closed" } } : { result: { data: { channel } } },
  "/publish": ({ data }) => ({ result: { data: { ...data, checked: true } } }),
  "/rpc": ({ method, data, user }) =>
    method === "add"
      ? { result: { data: { sum: data.a + data.b, user } } }
      : { error: { code: 404, message: "no such method" } },
};

class Application {
  asked = [];
  waiting = new Set();

  async start(port = 0) {
    this.server = createServer(async (request, response) => {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      const body = JSON.parse(Buffer.concat(chunks));
      response.setHeader("Content-Type", "application/json");
      response.end(JSON.stringify(answers[request.url]?.(body) ?? {}));
      this.asked.push({ path: request.url, body });
      this.waiting.forEach((wake) => wake());
    });
    this.server.listen(port, "127.0.0.1");
    await once(this.server, "listening");
    this.port = this.server.address().port;
  }

  async stop() {
    const closed = once(this.server, "close");
    this.server.close();
    this.server.closeAllConnections();
    await closed;
  }

  // The first request that came and fits.
  async until(path, fits = () => true) {
    for (;;) {
      const found = this.asked.find((each) => each.path === path && fits(each.body));
      if (found) return found.body;
      await new Promise((resolve) => this.waiting.add(resolve));
    }
  }
}

const application = new Application();
let server;
before(async () => {
  await application.start();
  const endpoints = EVENTS.map((event) => `${event}.endpoint = "http://127.0.0.1:${application.port}/${event}"`);
  server = await Server.start(`
[channels.namespaces.asks]
subscribe_proxy_enabled = true
publish_proxy_enabled = true
[backend]
allow = ["127.0.0.1"]
timeout = "900ms"
${endpoints.join("\n")}
`);
});
after(async () => {
  await server.stop();
  await application.stop();
});

const encodings = [
  ["JSON", Centrifuge, (value) => value, (value) => value],
  ["Protobuf", ProtobufCentrifuge, (value) => Buffer.from(JSON.stringify(value)), (bytes) => JSON.parse(Buffer.from(bytes))],
];

const clients = new Set();
after(() => clients.forEach((client) => client.disconnect()));

function client(Kind, data) {
  const made = new Kind(server.url, { websocket: WebSocket, data, minReconnectDelay: 50, maxReconnectDelay: 200 });
  clients.add(made);
  return made;
}

const next = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));

for (const [name, Kind, write, read] of encodings) {
  test(`${name}: without a token the application says who it is, what it may, and answers its calls`, async () => {
    const ann = client(Kind, write({ name: "ann" }));
    const connected = next(ann, "connected");
    ann.connect();
    const context = await connected;
    assert.deepEqual(read(context.data), { hello: "ann" });
    assert.deepEqual(read((await ann.rpc("add", write({ a: 1, b: 2 }))).data), { sum: 3, user: "ann" });
    await assert.rejects(ann.rpc("other", write({})), { code: 404, message: "no such method" });

    const room = ann.newSubscription("asks:a");
    const subscribed = next(room, "subscribed");
    room.subscribe();
    assert.deepEqual(read((await subscribed).data), { channel: "asks:a" });
    const heard = next(room, "publication");
    await room.publish(write({ text: "hi" }));
    assert.deepEqual(read((await heard).data), { text: "hi", checked: true });
    const closed = ann.newSubscription("asks:closed");
    const refused = next(closed, "unsubscribed");
    closed.subscribe();
    assert.equal((await refused).code, 403);

    ann.send(write({ typing: name }));
    await application.until("/message", (body) => body.data.typing === name);
    await application.until("/refresh", (body) => body.client === context.client);
    assert.equal(ann.state, "connected", "it went on after it had run out");
    ann.disconnect();
    const gone = await application.until("/disconnected", (body) => body.client === context.client);
    assert.equal(gone.user, "ann");
  });
}

test("a client that the application does not want stays away", async () => {
  const stranger = client(Centrifuge, { name: "eve" });
  const ended = next(stranger, "disconnected");
  stranger.connect();
  assert.equal((await ended).code, 4501);
});

test("while the application is away calls fail for now, and clients come in once it is back", async () => {
  const ann = client(Centrifuge, { name: "ann" });
  const connected = next(ann, "connected");
  ann.connect();
  const context = await connected;
  await application.until("/refresh", (body) => body.client === context.client);
  await application.stop();
  await assert.rejects(ann.rpc("add", { a: 1, b: 2 }), { code: 100, temporary: true });
  const late = client(Centrifuge, { name: "ann" });
  const failed = next(late, "error");
  late.connect();
  assert.equal((await failed).error.code, 100);
  const letIn = next(late, "connected");
  await application.start(application.port);
  await letIn;
  assert.equal(ann.state, "connected");
});
