// stompjs does its work against a real server, over WebSocket.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Client } from "@stomp/stompjs";
import WebSocket from "ws";

import { Load } from "./load.mjs";
import { API_KEY, PASSCODE, Server } from "./server.mjs";

let server;
before(async () => (server = await Server.start()));
after(() => server.stop());

const clients = new Set();
after(() => Promise.all([...clients].map((client) => client.deactivate({ force: true }))));

function client(options = {}) {
  const made = new Client({
    webSocketFactory: () => new WebSocket(server.url, ["v12.stomp", "v11.stomp", "v10.stomp"]),
    connectHeaders: { login: "ann", passcode: PASSCODE },
    heartbeatIncoming: 4000,
    heartbeatOutgoing: 4000,
    reconnectDelay: 0,
    ...options,
  });
  clients.add(made);
  return made;
}

function connected(made) {
  return new Promise((resolve, reject) => {
    made.onConnect = (frame) => resolve(frame.headers);
    made.onStompError = (frame) => reject(new Error(`${frame.headers.code}: ${frame.body}`));
    made.activate();
  });
}

const receipt = (made, id) =>
  new Promise((resolve) => made.watchForReceipt(id, (frame) => resolve(frame.headers)));

async function said(made, destination, body, headers = {}) {
  const done = receipt(made, body);
  made.publish({ destination, body, headers: { receipt: body, ...headers } });
  await done;
}

// Collects messages and waits for a number of them.
async function subscribed(made, destination, headers = {}) {
  const got = [];
  let wake = () => {};
  const done = receipt(made, `at ${destination}`);
  const subscription = made.subscribe(
    destination,
    (message) => {
      got.push(message);
      wake();
    },
    { receipt: `at ${destination}`, ...headers },
  );
  const told = await done;
  return {
    told,
    subscription,
    async bodies(count) {
      while (got.length < count) await new Promise((resolve) => (wake = resolve));
      return got.map((message) => message.body);
    },
    got,
  };
}

test("connects, subscribes, sends and hears itself, with receipts and headers", async () => {
  const ann = client();
  const told = await connected(ann);
  assert.equal(told.version, "1.2");
  assert.equal(told["heart-beat"], "10000,10000");
  const topic = await subscribed(ann, "/topic/a");
  await said(ann, "/topic/a", "hi", { colour: "a:b\nc", "content-type": "text/plain" });
  assert.deepEqual(await topic.bodies(1), ["hi"]);
  const { headers } = topic.got[0];
  assert.equal(headers.colour, "a:b\nc");
  assert.equal(headers.destination, "/topic/a");
  topic.subscription.unsubscribe();
  await said(ann, "/topic/a", "unheard");
  assert.equal(topic.got.length, 1);
  await ann.deactivate();
});

test("a body of bytes and one of a mebibyte arrive whole", async () => {
  const ann = client({ splitLargeFrames: true });
  await connected(ann);
  const topic = await subscribed(ann, "/topic/big");
  const bytes = Uint8Array.from([0, 255, 10, 0]);
  const large = "x".repeat(1 << 20);
  ann.publish({ destination: "/topic/big", binaryBody: bytes });
  ann.publish({ destination: "/topic/big", body: large });
  await topic.bodies(2);
  assert.deepEqual(topic.got[0].binaryBody, bytes);
  assert.equal(topic.got[1].body, large);
  await ann.deactivate();
});

test("a transaction counts when it is committed", async () => {
  const ann = client();
  await connected(ann);
  const topic = await subscribed(ann, "/topic/tx");
  const [kept, dropped] = [ann.begin(), ann.begin()];
  const send = (transaction, body) =>
    ann.publish({ destination: "/topic/tx", body, headers: { transaction: transaction.id } });
  send(dropped, "never");
  send(kept, "one");
  send(kept, "two");
  dropped.abort();
  await said(ann, "/topic/tx", "before");
  kept.commit();
  assert.deepEqual(await topic.bodies(3), ["before", "one", "two"]);
  await ann.deactivate();
});

test("what is acknowledged makes room for more", async () => {
  const ann = client();
  await connected(ann);
  const headers = { ack: "client-individual", "prefetch-count": "2" };
  const topic = await subscribed(ann, "/topic/kept:ack", headers);
  for (let number = 0; number < 6; number++) await said(ann, "/topic/kept:ack", String(number));
  for (let number = 0; number < 6; number++) {
    await topic.bodies(number + 1);
    assert.ok(topic.got.length <= number + 2);
    topic.got[number].ack();
  }
  assert.deepEqual(await topic.bodies(6), ["0", "1", "2", "3", "4", "5"]);
  await ann.deactivate();
});

test("nothing is missed across the death of the server", async () => {
  const ann = client();
  await connected(ann);
  const topic = await subscribed(ann, "/topic/kept:a");
  await said(ann, "/topic/kept:a", "first");
  await topic.bodies(1);
  const position = topic.got[0].headers.position;
  topic.subscription.unsubscribe();
  for (let number = 0; number < 20; number++) await said(ann, "/topic/kept:a", `missed ${number}`);
  const closed = new Promise((resolve) => (ann.onWebSocketClose = resolve));
  await server.restart("SIGKILL");
  await closed;
  const back = client();
  await connected(back);
  const again = await subscribed(back, "/topic/kept:a", { "last-position": position });
  assert.equal(again.told.recovered, "true");
  const missed = Array.from({ length: 20 }, (_, number) => `missed ${number}`);
  assert.deepEqual(await again.bodies(20), missed);
  await back.deactivate();
});

test("a client that reconnects by itself is told when the server goes", async () => {
  const ann = client({ reconnectDelay: 100 });
  await connected(ann);
  const told = new Promise((resolve) => (ann.onStompError = (frame) => resolve(frame.headers)));
  const back = new Promise((resolve) => (ann.onConnect = resolve));
  await server.restart("SIGTERM");
  const headers = await told;
  assert.equal(headers.code, "shutting_down");
  assert.ok(Number(headers["retry-after-ms"]) >= 0);
  await back;
  await ann.deactivate();
});

test("a refusal says why", async () => {
  const stranger = client({ connectHeaders: { login: "ann", passcode: "wrong" } });
  await assert.rejects(connected(stranger), /bad_credentials/);
  await stranger.deactivate();
});

// A reader that comes back by itself and says which message it had last.
async function follower(destination) {
  const got = [];
  let wake = () => {};
  const made = client({ reconnectDelay: 100 });
  const follow = () => {
    const done = receipt(made, destination);
    const place = got.length > 0 ? { "last-position": got.at(-1).headers.position } : {};
    made.subscribe(
      destination,
      (message) => {
        got.push(message);
        wake();
      },
      { receipt: destination, ...place },
    );
    return done;
  };
  await connected(made);
  made.onConnect = follow;
  made.onStompError = () => {};
  await follow();
  return {
    async until(count) {
      while (got.length < count) await new Promise((resolve) => (wake = resolve));
      return got.map((message) => JSON.parse(message.body));
    },
  };
}

for (const [signal, exitCode] of [["SIGTERM", 0], ["SIGKILL", null]]) {
  test(`${signal} again and again under load: nothing is lost, doubled or out of order`, async () => {
    const channel = `kept:${signal}`;
    const readers = [];
    for (let number = 0; number < 4; number++) readers.push(await follower(`/topic/${channel}`));
    const load = new Load(server, API_KEY, channel, 8);
    for (let round = 0; round < 3; round++) {
      await load.more(100);
      assert.equal(await server.restart(signal), exitCode);
    }
    await load.more(100);
    const account = await load.stop();
    for (const reader of readers) assert.deepEqual(await reader.until(account.length), account);
  });
}
