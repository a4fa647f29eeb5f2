// Run with: node --test

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { request } from "node:http";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { inflateSync } from "node:zlib";

import { listen, makeServer, signatureIsValid } from "./bot.mjs";

const SECRET = "testsecret";
const BOT = fileURLToPath(new URL("bot.mjs", import.meta.url));

function sign(body, secret = SECRET, at = Date.now() / 1000) {
  const stamp = Math.floor(at);
  const mac = createHmac("sha256", secret).update(`${stamp}.`).update(body).digest("hex");
  return `t=${stamp},v1=${mac}`;
}

function message(text) {
  return JSON.stringify({
    event: "message",
    id: 775946240000001,
    bot: "demo-bot",
    device: "0123456789abcdef",
    room: { name: "점심방", channel_id: "18400000000000001" },
    sender: { name: "지우", user_hash: null },
    text,
    is_group_chat: true,
    is_mention: false,
    log_id: "3600000000000000001",
    received_at: "2026-01-01T00:00:00.123Z",
    attempt: 1,
  });
}

// The vector of docs/guide/webhooks.md.
const VECTOR = {
  body: Buffer.from('{"event":"message"}'),
  header: "t=1767225600,v1=b01ee30da8ed3f84d7f8acb6f2d35250686454e2b69550f757f14f6b2ca8397a",
  now: 1767225600,
};

test("the vector of the guide is valid", () => {
  assert.ok(signatureIsValid(VECTOR.header, VECTOR.body, SECRET, VECTOR.now));
  assert.equal(sign(VECTOR.body, SECRET, VECTOR.now), VECTOR.header);
});

test("one of two signatures is enough", () => {
  const other = sign(VECTOR.body, "new", VECTOR.now).split(",")[1];
  const both = VECTOR.header.replace(",", `,${other},`);
  for (const secret of [SECRET, "new"]) {
    assert.ok(signatureIsValid(both, VECTOR.body, secret, VECTOR.now));
  }
});

test("anything else is not valid", () => {
  const { body, header, now } = VECTOR;
  for (const [given, bytes, at] of [
    [header, Buffer.from('{"event":"Message"}'), now],
    [header, body, now + 301],
    [header, body, now - 301],
    [header.replace("=1767225600", "=1767225601"), body, now],
    ["t=1767225600", body, now],
    ["t=x,v1=00", body, now],
    ["t=1767225600,v1=é", body, now],
    ["", body, now],
    [undefined, body, now],
  ]) {
    assert.equal(signatureIsValid(given, bytes, SECRET, at), false, given);
  }
});

const server = makeServer(SECRET);
let url;
before(async () => {
  url = await listen(server, "127.0.0.1", 0);
});
after(() => {
  server.close();
  server.closeAllConnections();
});

async function call(body, headers = {}) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Naru-Signature": sign(body), "Naru-Delivery": body, ...headers },
    body,
  });
  const text = await response.text();
  return [response.status, text && JSON.parse(text)];
}

/** Header values are ASCII; deliveries are numbers. */
const delivery = (id) => ({ "Naru-Delivery": String(id) });

test("echo answers with the text", async () => {
  const expected = [200, { replies: [{ text: "안녕 {}" }] }];
  assert.deepEqual(await call(message("!echo 안녕 {}"), delivery(1)), expected);
});

test("other talk is met with silence", async () => {
  assert.deepEqual(await call(message("안녕"), delivery(2)), [200, { replies: [] }]);
});

test("a repeated delivery gets the same answer", async () => {
  const first = await call(message("!dice 9999"), delivery(3));
  for (let i = 0; i < 5; i += 1) assert.deepEqual(await call(message("!dice 9999"), delivery(3)), first);
});

test("a picture is a PNG", async () => {
  const [, document] = await call(message("!picture 나루"), delivery(4));
  const data = Buffer.from(document.replies[0].images[0].base64, "base64");
  assert.equal(data.toString("latin1", 0, 8), "\x89PNG\r\n\x1a\n");
  assert.deepEqual([data.readUInt32BE(16), data.readUInt32BE(20)], [64, 64]);
  const length = data.readUInt32BE(33);
  assert.equal(inflateSync(data.subarray(41, 41 + length)).length, 64 * 193);
});

test("unsigned and stale calls are refused", async () => {
  const body = message("!echo x");
  for (const header of ["", sign(body, "wrong"), sign(body, SECRET, Date.now() / 1000 - 400)]) {
    const [status] = await call(body, { ...delivery(5), "Naru-Signature": header });
    assert.equal(status, 401);
  }
});

test("signed nonsense is a bad request", async () => {
  let id = 100;
  for (const body of ["{", "null", '{"event":"message"}', '{"event":"message","text":1}']) {
    const [status] = await call(body, delivery((id += 1)));
    assert.equal(status, 400, body);
  }
});

test("unknown events are passed over", async () => {
  assert.deepEqual(await call('{"event":"later"}', delivery(6)), [204, ""]);
});

test("a body that is too long is not read", async () => {
  const headers = { "Content-Length": 2 * 1024 * 1024 };
  const status = await new Promise((resolve, reject) => {
    const long = request(url, { method: "POST", headers }, (response) => {
      resolve(response.statusCode);
      long.destroy();
    });
    long.once("error", reject);
    long.flushHeaders();
  });
  assert.equal(status, 413);
});

test("port 0 prints the port that was chosen", async () => {
  const bot = spawn(process.execPath, [BOT, "--port", "0"]);
  try {
    const [line] = await new Promise((resolve) => {
      bot.stdout.once("data", (data) => resolve(String(data).split("\n")));
    });
    assert.match(line, /^listening on http:\/\/127\.0\.0\.1:[1-9][0-9]*\/$/);
  } finally {
    bot.kill();
  }
});

test("the self-test passes", () => {
  const done = spawnSync(process.execPath, [BOT, "--self-test"], { encoding: "utf8" });
  assert.equal(done.stdout, "self-test passed\n", done.stderr);
});
