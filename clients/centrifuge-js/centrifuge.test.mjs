// The stock SDK does its work against a real server, in both of its encodings.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

import { collect, encodings, next, subscribed } from "./helpers.mjs";
import { Load } from "./load.mjs";
import { API_KEY, Server, seconds, token } from "./server.mjs";

let server;
before(async () => (server = await Server.start()));
after(() => server.stop());

const clients = new Set();
after(() => clients.forEach((client) => client.disconnect()));

function client(Kind, user, options = {}) {
  const made = new Kind(options.url ?? server.url, {
    websocket: WebSocket,
    token: token({ sub: user, ...options.claims }),
    minReconnectDelay: 50,
    maxReconnectDelay: 200,
    ...options,
  });
  clients.add(made);
  return made;
}

for (const [name, Kind, write, read] of encodings) {
  const channel = (text) => `${text}-${name}`;

  test(`${name}: connects, subscribes, publishes and hears itself`, async () => {
    const bo = client(Kind, "bo");
    const [subscription, context] = await subscribed(bo, channel("chat:a"));
    assert.equal(context.recoverable, true);
    const heard = collect(subscription, read);
    await subscription.publish(write({ text: "hi" }));
    const [first] = await heard.until(1);
    assert.deepEqual(first.data, { text: "hi" });
    assert.equal(first.info.user, "bo");
    assert.equal(first.offset, 1);
    const history = await subscription.history({ limit: 10 });
    assert.deepEqual(history.publications.map((each) => read(each.data)), [{ text: "hi" }]);
    bo.disconnect();
  });

  test(`${name}: presence, its figures, joins and leaves are right`, async () => {
    const al = client(Kind, "al");
    const [inside] = await subscribed(al, channel("chat:presence"));
    const joined = new Promise((resolve) => {
      inside.on("join", (context) => context.info.user === "bo" && resolve(context));
    });
    const bo = client(Kind, "bo");
    const [other] = await subscribed(bo, channel("chat:presence"));
    assert.equal((await joined).info.user, "bo");
    const presence = await inside.presence();
    assert.deepEqual(Object.values(presence.clients).map((each) => each.user).sort(), ["al", "bo"]);
    assert.deepEqual(await other.presenceStats(), { numClients: 2, numUsers: 2 });
    const left = next(inside, "leave");
    bo.disconnect();
    assert.equal((await left).info.user, "bo");
    assert.deepEqual(await inside.presenceStats(), { numClients: 1, numUsers: 1 });
    al.disconnect();
  });

  test(`${name}: what was published during a cut arrives once and in order`, async () => {
    const bo = client(Kind, "bo");
    const al = client(Kind, "al");
    const [reader] = await subscribed(bo, channel("chat:cut"));
    const heard = collect(reader, read);
    const [writer] = await subscribed(al, channel("chat:cut"));
    await writer.publish(write(1));
    await heard.until(1);
    bo.disconnect();
    for (let number = 2; number <= 20; number++) await writer.publish(write(number));
    const back = next(reader, "subscribed");
    bo.connect();
    const context = await back;
    assert.equal(context.wasRecovering, true);
    assert.equal(context.recovered, true);
    await writer.publish(write(21));
    const got = (await heard.until(21)).map((each) => each.data);
    assert.deepEqual(got, Array.from({ length: 21 }, (_, index) => index + 1));
    bo.disconnect();
    al.disconnect();
  });

  test(`${name}: a channel that nobody allowed is refused with 103, an unknown namespace with 102`, async () => {
    const bo = client(Kind, "bo");
    bo.connect();
    for (const [channel, code] of [["closed:a", 103], ["nowhere:a", 102], ["$chat:a", 103]]) {
      const subscription = bo.newSubscription(channel);
      const refused = next(subscription, "unsubscribed");
      subscription.subscribe();
      assert.equal((await refused).code, code, channel);
    }
    await assert.rejects(bo.publish("closed:a", write(1)), { code: 103 });
    await assert.rejects(bo.rpc("anything", write(1)), { code: 108 });
    bo.disconnect();
  });

  test(`${name}: a subscription token opens a closed channel`, async () => {
    const bo = client(Kind, "bo");
    const claims = { sub: "bo", channel: "closed:token", info: { colour: "red" } };
    const [subscription] = await subscribed(bo, "closed:token", { token: token(claims) });
    assert.equal(subscription.state, "subscribed");
    bo.disconnect();
  });

  test(`${name}: deltas come out as what was published`, async () => {
    const bo = client(Kind, "bo");
    const [reader] = await subscribed(bo, channel("delta:a"), { delta: "fossil" });
    const heard = collect(reader, read);
    const long = "a sentence that stays the same each time ".repeat(10);
    for (let number = 0; number < 5; number++) {
      await bo.publish(channel("delta:a"), write({ long, number, korean: "나루터" }));
    }
    const got = await heard.until(5);
    got.forEach((each, number) => assert.deepEqual(each.data, { long, number, korean: "나루터" }));
    bo.disconnect();
  });

  test(`${name}: a cache channel gives its newest publication with the subscription`, async () => {
    const bo = client(Kind, "bo");
    bo.connect();
    await bo.publish(channel("cache:a"), write("old"));
    await bo.publish(channel("cache:a"), write("new"));
    const subscription = bo.newSubscription(channel("cache:a"));
    const heard = collect(subscription, read);
    subscription.subscribe();
    assert.equal((await heard.until(1))[0].data, "new");
    bo.disconnect();
  });

  test(`${name}: server-side subscriptions of the token deliver and recover`, async () => {
    const bo = client(Kind, "bo", { claims: { channels: [channel("chat:server")] } });
    const al = client(Kind, "al");
    const heard = collect(bo, read);
    const there = next(bo, "subscribed");
    bo.connect();
    assert.equal((await there).channel, channel("chat:server"));
    const [writer] = await subscribed(al, channel("chat:server"));
    await writer.publish(write("one"));
    await heard.until(1);
    bo.disconnect();
    await writer.publish(write("two"));
    bo.connect();
    assert.deepEqual((await heard.until(2)).map((each) => each.data), ["one", "two"]);
    bo.disconnect();
    al.disconnect();
  });

  test(`${name}: a filter lets only some publications through, live and recovered`, async () => {
    const bo = client(Kind, "bo");
    const filter = { key: "colour", cmp: "in", vals: ["red", "green"] };
    const [reader] = await subscribed(bo, channel("tagged:a"), { tagsFilter: filter });
    const heard = collect(reader, read);
    const publish = (data, colour) =>
      server.api("publish", { channel: channel("tagged:a"), data, tags: { colour } });
    for (const [data, colour] of [[1, "red"], [2, "blue"], [3, "green"]]) await publish(data, colour);
    await heard.until(2);
    bo.disconnect();
    for (const [data, colour] of [[4, "blue"], [5, "green"], [6, "blue"]]) await publish(data, colour);
    const back = next(reader, "subscribed");
    bo.connect();
    assert.equal((await back).recovered, true);
    await publish(7, "blue");
    await publish(8, "red");
    assert.deepEqual((await heard.until(4)).map((each) => each.data), [1, 3, 5, 8]);
    const refused = bo.newSubscription(channel("chat:unfiltered"), { tagsFilter: filter });
    const ended = next(refused, "unsubscribed");
    refused.subscribe();
    assert.equal((await ended).code, 107);
    bo.disconnect();
  });

  test(`${name}: what the back end sends a user while it is away waits in its own channel`, async () => {
    const user = channel("user");
    const own = `personal:#${user}`;
    const bo = client(Kind, user);
    const heard = collect(bo, read);
    const there = next(bo, "subscribed");
    bo.connect();
    const context = await there;
    assert.deepEqual([context.channel, context.recoverable], [own, true]);
    await server.api("publish", { channel: own, data: 1 });
    await heard.until(1);
    bo.disconnect();
    for (const data of [2, 3]) await server.api("publish", { channel: own, data });
    const again = next(bo, "subscribed");
    bo.connect();
    assert.equal((await again).recovered, true);
    await server.api("publish", { channel: own, data: 4 });
    assert.deepEqual((await heard.until(4)).map((each) => each.data), [1, 2, 3, 4]);
    const eve = client(Kind, "eve");
    const outside = eve.newSubscription(own);
    const refused = next(outside, "unsubscribed");
    outside.subscribe();
    eve.connect();
    assert.equal((await refused).code, 103);
    await assert.rejects(bo.publish(own, write(5)), { code: 103 });
    [bo, eve].forEach((each) => each.disconnect());
  });
}

test("what the back end publishes late, behind something newer, is left out", async () => {
  const bo = client(Centrifuge, "bo");
  const [reader] = await subscribed(bo, "chat:versions");
  const heard = collect(reader, (value) => value);
  const publish = (version) => server.api("publish", { channel: "chat:versions", data: version, version });
  const { epoch } = await publish(2);
  assert.deepEqual(await publish(1), { offset: 1, epoch });
  assert.deepEqual(await publish(3), { offset: 2, epoch });
  assert.deepEqual((await heard.until(2)).map((each) => each.data), [2, 3]);
  const forgetful = { channel: "dialog:1#bo", data: 1, version: 1 };
  await assert.rejects(server.api("publish", forgetful), { code: 108 });
  bo.disconnect();
});

test("a bad token ends the connection for good, an expired one asks for another", async () => {
  const bad = client(Centrifuge, "bo", { token: token({ sub: "bo" }, "another secret of enough bytes!!") });
  const ended = next(bad, "disconnected");
  bad.connect();
  assert.equal((await ended).code, 3500);

  let asked = 0;
  const late = client(Centrifuge, "bo", {
    token: token({ sub: "bo", exp: seconds(-10) }),
    getToken: async () => (asked++, token({ sub: "bo", exp: seconds(600) })),
  });
  const connected = next(late, "connected");
  late.connect();
  await connected;
  assert.equal(asked, 1);
  late.disconnect();
});

test("a connection is refreshed while it lives", async () => {
  let asked = 0;
  const bo = client(Centrifuge, "bo", {
    token: token({ sub: "bo", exp: seconds(2) }),
    getToken: async () => (asked++, token({ sub: "bo", exp: seconds(600) })),
  });
  const states = [];
  bo.on("state", (context) => states.push(context.newState));
  const refreshed = new Promise((resolve) => {
    const original = bo._config?.getToken;
    const timer = setInterval(() => asked > 0 && (clearInterval(timer), resolve()), 20);
  });
  bo.connect();
  await refreshed;
  await bo.ready();
  assert.deepEqual(states, ["connecting", "connected"]);
  bo.disconnect();
});

test("a user without a token is refused unless anonymous users are allowed", async () => {
  const nobody = new Centrifuge(server.url, { websocket: WebSocket });
  clients.add(nobody);
  const ended = next(nobody, "disconnected");
  nobody.connect();
  assert.equal((await ended).code, 3501);
});

test("users listed in a channel's name talk to each other and nobody else does", async () => {
  const bo = client(Centrifuge, "bo");
  const [inside] = await subscribed(bo, "dialog:1#al,bo");
  const al = client(Centrifuge, "al");
  const [writer] = await subscribed(al, "dialog:1#al,bo");
  const heard = collect(inside, (value) => value);
  await writer.publish("psst");
  assert.equal((await heard.until(1))[0].data, "psst");
  const eve = client(Centrifuge, "eve");
  const outside = eve.newSubscription("dialog:1#al,bo");
  const refused = next(outside, "unsubscribed");
  outside.subscribe();
  eve.connect();
  assert.equal((await refused).code, 103);
  [bo, al, eve].forEach((each) => each.disconnect());
});

for (const signal of ["SIGTERM", "SIGKILL"]) {
  test(`acknowledged publications survive ${signal} of the server, and clients recover across it`, async () => {
    const own = await Server.start();
    try {
      const bo = client(Centrifuge, "bo", { url: own.url });
      const [reader] = await subscribed(bo, "chat:restart");
      const heard = collect(reader, (value) => value);
      const al = client(Centrifuge, "al", { url: own.url });
      const [writer] = await subscribed(al, "chat:restart");
      for (let number = 1; number <= 10; number++) await writer.publish(number);
      await heard.until(10);
      const again = [next(reader, "subscribed"), next(writer, "subscribed")];
      await own.restart(signal);
      const [context] = await Promise.all(again);
      assert.equal(context.recovered, true, "the epoch survived");
      for (let number = 11; number <= 20; number++) await writer.publish(number);
      const got = (await heard.until(20)).map((each) => each.data);
      assert.deepEqual(got, Array.from({ length: 20 }, (_, index) => index + 1));
      bo.disconnect();
      al.disconnect();
    } finally {
      await own.stop();
    }
  });
}

for (const [signal, exitCode] of [["SIGTERM", 0], ["SIGKILL", null]]) {
  test(`${signal} again and again under load: nothing is lost, doubled or out of order`, async () => {
    const own = await Server.start();
    try {
      const readers = [];
      for (let number = 0; number < 10; number++) {
        const [, Kind, , read] = encodings[number % 2];
        const [reader] = await subscribed(client(Kind, `reader ${number}`, { url: own.url }), "kept:load");
        readers.push(collect(reader, read));
      }
      const load = new Load(own, API_KEY, "kept:load", 8);
      for (let round = 0; round < 3; round++) {
        await load.more(100);
        assert.equal(await own.restart(signal), exitCode);
      }
      await load.more(100);
      const account = await load.stop();
      for (const reader of readers) {
        const got = await reader.until(account.length);
        assert.deepEqual(got.map((each) => each.data), account);
      }
    } finally {
      await own.stop();
    }
  });
}
