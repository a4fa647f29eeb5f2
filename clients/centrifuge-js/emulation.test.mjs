// The stock SDK without a WebSocket: a stream of HTTP or of server-sent events, and requests beside it.

import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, test } from "node:test";

import { Centrifuge } from "centrifuge";
import { EventSource } from "eventsource";

import { collect, encodings, next, subscribed } from "./helpers.mjs";
import { Server, token } from "./server.mjs";

const OPEN = `
[channels.namespaces.open]
history_size = 100
durability = "disk"
force_recovery = true
presence = true
join_leave = true
force_push_join_leave = true
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
allow_publish_for_client = true
allow_publish_for_anonymous = true
`;
const SETTINGS = ["client.allow_anonymous=true", 'http.allowed_origins=["https://app.example"]'];

let server;
before(async () => (server = await Server.start(OPEN, SETTINGS)));
after(() => server.stop());

const clients = new Set();
after(() => clients.forEach((client) => client.disconnect()));

function client(Kind, transport, at = server, options = {}) {
  const made = new Kind([{ transport, endpoint: `http://${at.http}/connection/${transport}` }], {
    eventsource: EventSource,
    emulationEndpoint: `http://${at.http}/emulation`,
    minReconnectDelay: 50,
    maxReconnectDelay: 200,
    ...options,
  });
  clients.add(made);
  return made;
}

const ways = [
  ...encodings.map(([name, ...rest]) => [`http_stream, ${name}`, "http_stream", { token: token({ sub: "bo" }) }, ...rest]),
  // What an EventSource says first stands in an address, so it may hold no token.
  ["sse", "sse", {}, ...encodings[0].slice(1)],
];

for (const [name, transport, options, Kind, write, read] of ways) {
  const channel = (text) => `open:${text}-${transport}-${Kind === Centrifuge}`;

  test(`${name}: subscribes, publishes, hears itself and is gone when it leaves`, async () => {
    const bo = client(Kind, transport, server, options);
    const [subscription] = await subscribed(bo, channel("a"));
    const heard = collect(subscription, read);
    const long = "나루".repeat(10_000);
    await subscription.publish(write({ long }));
    await Promise.all([1, 2, 3].map((number) => subscription.publish(write(number))));
    const got = (await heard.until(4)).map((each) => each.data);
    assert.deepEqual(got[0], { long });
    assert.deepEqual(got.slice(1).sort(), [1, 2, 3], "in any order: each is a request of its own");
    const watcher = client(Centrifuge, "http_stream");
    const [room] = await subscribed(watcher, channel("a"));
    const left = next(room, "leave");
    bo.disconnect();
    await left;
    watcher.disconnect();
  });

  test(`${name}: what was published during a cut arrives once and in order`, async () => {
    const bo = client(Kind, transport, server, options);
    const [reader] = await subscribed(bo, channel("cut"));
    const heard = collect(reader, read);
    const publish = (data) => server.api("publish", { channel: channel("cut"), data });
    await publish(1);
    await heard.until(1);
    const lost = next(bo, "connecting");
    const back = next(reader, "subscribed");
    const disconnect = { code: 3011, reason: "force reconnect" };
    const { presence } = await server.api("presence", { channel: channel("cut") });
    await server.api("disconnect", { client: Object.keys(presence)[0], disconnect });
    assert.equal((await lost).code, 3011, "the stream says why it ends");
    for (let number = 2; number <= 10; number++) await publish(number);
    assert.equal((await back).recovered, true);
    bo.disconnect();
    for (let number = 11; number <= 20; number++) await publish(number);
    const again = next(reader, "subscribed");
    bo.connect();
    assert.equal((await again).recovered, true);
    await publish(21);
    const got = (await heard.until(21)).map((each) => each.data);
    assert.deepEqual(got, Array.from({ length: 21 }, (_, index) => index + 1));
    bo.disconnect();
  });
}

test("a stream survives the server's death with what was published before it", async () => {
  const own = await Server.start(OPEN, SETTINGS);
  try {
    const bo = client(Centrifuge, "http_stream", own);
    const [reader] = await subscribed(bo, "open:restart");
    const heard = collect(reader, (value) => value);
    for (const data of [1, 2, 3]) await own.api("publish", { channel: "open:restart", data });
    await heard.until(3);
    const again = next(reader, "subscribed");
    await own.restart("SIGKILL");
    assert.equal((await again).recovered, true);
    await own.api("publish", { channel: "open:restart", data: 4 });
    assert.deepEqual((await heard.until(4)).map((each) => each.data), [1, 2, 3, 4]);
    // An orderly end says so in the stream.
    const lost = next(bo, "connecting");
    const back = next(reader, "subscribed");
    await own.restart("SIGTERM");
    assert.deepEqual([(await lost).code, (await back).recovered], [3001, true]);
    bo.disconnect();
  } finally {
    await own.stop();
  }
});

// A request of HTTP as it stands. Does not wait for the end of the answer.
function ask(method, path, { headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const asked = request(`http://${server.http}${path}`, { method, headers }, (answer) => {
      let text = "";
      answer.on("data", (piece) => (text += piece));
      answer.on("end", () => resolve({ status: answer.statusCode, headers: answer.headers, text }));
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

test("a token in the address of a stream is refused, and in a body it is not", async () => {
  const connect = JSON.stringify({ id: 1, connect: { token: token({ sub: "bo" }) } });
  const refused = await ask("GET", `/connection/sse?cf_connect=${encodeURIComponent(connect)}`);
  assert.equal(refused.status, 400);
  assert.match(refused.text, /^token_in_url/);
  const aborted = new AbortController();
  const answer = await fetch(`http://${server.http}/connection/sse`, {
    method: "POST",
    body: connect,
    signal: aborted.signal,
  });
  assert.equal(answer.headers.get("content-type"), "text/event-stream");
  const { value } = await answer.body.getReader().read();
  const event = new TextDecoder().decode(value);
  const reply = JSON.parse(event.replace(/^data: (.*)\n\n$/, "$1"));
  assert.match(reply.connect.session, /^[0-9a-f]{64}$/);
  aborted.abort();
});

test("requests that make no sense are refused with the status for it", async () => {
  const post = (body, headers) => ask("POST", "/emulation", { body, headers });
  const to = (session, data = "{}") => JSON.stringify({ session, node: "n", data });
  assert.equal((await post(to("0".repeat(64)))).status, 404);
  assert.equal((await post("{")).status, 400);
  assert.equal((await post(to("s", ""))).status, 400);
  assert.equal((await post(to("s", "x".repeat(65_537)))).status, 413);
  assert.equal((await ask("GET", "/emulation")).status, 405);
  assert.equal((await ask("GET", "/connection/http_stream")).status, 405);
  assert.equal((await ask("POST", "/connection/http_stream")).status, 400);
  assert.equal((await ask("GET", "/connection/sse")).status, 400);
});

test("pages of other origins may ask where the configuration says so", async () => {
  const from = (origin) => ({ headers: { origin, "access-control-request-method": "POST" } });
  const allowed = await ask("OPTIONS", "/emulation", from("https://app.example"));
  assert.equal(allowed.status, 204);
  assert.equal(allowed.headers["access-control-allow-origin"], "https://app.example");
  assert.equal(allowed.headers["access-control-allow-credentials"], "true");
  assert.match(allowed.headers["access-control-allow-headers"], /content-type/);
  const refused = await ask("OPTIONS", "/emulation", from("https://evil.example"));
  assert.equal(refused.status, 403);
  assert.equal(refused.headers["access-control-allow-origin"], undefined);
});
