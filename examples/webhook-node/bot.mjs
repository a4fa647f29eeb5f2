#!/usr/bin/env node
// A small webhook bot for Naru. Node 18 or newer, standard library only.
//
// It checks the signature and the time of every call, answers `!echo`, `!dice`, `!picture` and `!help`,
// stays silent otherwise, and gives a repeated delivery the answer it gave the first time.

import { createHash, createHmac, randomBytes, randomInt, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { deflateSync } from "node:zlib";

const AGE_MAX_SECONDS = 300;
const BODY_BYTES_MAX = 1024 * 1024;
const DELIVERIES_MAX = 1000;

/** Whether `header` (Naru-Signature) was made with `secret` over `body` (a Buffer) just now. */
export function signatureIsValid(header, body, secret, now = Date.now() / 1000) {
  let stamp;
  const signatures = [];
  for (const part of (header ?? "").split(",")) {
    const [name, value = ""] = part.split("=", 2);
    if (name === "t") stamp = value;
    if (name === "v1") signatures.push(value);
  }
  if (!/^[0-9]{1,15}$/.test(stamp ?? "") || Math.abs(now - Number(stamp)) > AGE_MAX_SECONDS) return false;
  const expected = createHmac("sha256", secret).update(`${stamp}.`).update(body).digest();
  // During a change of secrets there are two signatures; one that fits is enough. The comparison takes
  // the same time wherever the first difference is.
  return signatures.some((signature) => {
    const given = Buffer.from(signature, "hex");
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit += 1) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

function pngChunk(kind, data) {
  const body = Buffer.concat([Buffer.from(kind), data]);
  const crc = body.reduce((crc, byte) => CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8), 0xffffffff);
  const [length, checksum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  checksum.writeUInt32BE((crc ^ 0xffffffff) >>> 0);
  return Buffer.concat([length, body, checksum]);
}

/** A PNG of 64×64 pixels: five by five blocks that stand for the word. */
export function picture(word) {
  const digest = createHash("sha256").update(word).digest();
  const rows = Buffer.alloc(64 * (1 + 64 * 3)); // Each row begins with 0: no filter.
  for (let y = 0; y < 64; y += 1) {
    for (let x = 0; x < 64; x += 1) {
      const [column, line] = [Math.floor((x - 2) / 12), Math.floor((y - 2) / 12)];
      const inside = column >= 0 && column < 5 && line >= 0 && line < 5;
      const isInk = inside && digest[3 + line * 3 + Math.min(column, 4 - column)] & 1;
      const at = y * 193 + 1 + x * 3;
      for (let channel = 0; channel < 3; channel += 1) rows[at + channel] = isInk ? digest[channel] : 0xf4;
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(64, 0);
  header.writeUInt32BE(64, 4);
  header.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"),
    pngChunk("IHDR", header),
    pngChunk("IDAT", deflateSync(rows)),
    pngChunk("IEND", Buffer.alloc(0)),
  ]);
}

/** The replies to one message: a list as docs/guide/webhooks.md describes it. Empty is silence. */
export function answer(message) {
  const [, command, rest] = message.text.match(/^(\S*)\s*([^]*?)\s*$/);
  switch (command) {
    case "!echo":
      return [{ text: rest || "Usage: !echo TEXT" }];
    case "!dice": {
      const sides = /^[0-9]{1,4}$/.test(rest) ? Math.max(Number(rest), 2) : 6;
      return [{ text: `${message.sender.name}: ${randomInt(1, sides + 1)} (1-${sides})` }];
    }
    case "!picture":
      return [{ images: [{ base64: picture(rest || "Naru").toString("base64") }] }];
    case "!help":
      return [{ text: "!echo TEXT\n!dice [SIDES]\n!picture [WORD]" }];
    default:
      return [];
  }
}

async function readBody(request) {
  if (Number(request.headers["content-length"] ?? 0) > BODY_BYTES_MAX) return null;
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > BODY_BYTES_MAX) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function respond(response, status, document) {
  const body = document === undefined ? "" : JSON.stringify(document);
  response.writeHead(status, {
    ...(body && { "Content-Type": "application/json" }),
    "Content-Length": Buffer.byteLength(body),
  });
  response.end(body);
}

/** The server, not listening yet. */
export function makeServer(secret) {
  // Naru repeats a delivery when it does not hear our answer; without this, a repeated `!dice` would be
  // thrown again.
  const answers = new Map();

  function answerOnce(delivery, message) {
    if (!answers.has(delivery)) {
      answers.set(delivery, answer(message));
      if (answers.size > DELIVERIES_MAX) answers.delete(answers.keys().next().value);
    }
    return answers.get(delivery);
  }

  return createServer({ requestTimeout: 30_000 }, async (request, response) => {
    try {
      if (request.method !== "POST") return respond(response, 200, { ok: true });
      const body = await readBody(request);
      if (body === null) {
        response.setHeader("Connection", "close");
        return respond(response, 413, { error: "the body is longer than 1 MiB" });
      }
      // The signature first: nothing of an unsigned body is looked at.
      if (!signatureIsValid(request.headers["naru-signature"], body, secret)) {
        return respond(response, 401, { error: "the signature is missing, wrong or too old" });
      }
      const message = JSON.parse(body);
      // Kinds of events that come later are not for us.
      if (message.event !== "message") return respond(response, 204);
      return respond(response, 200, { replies: answerOnce(request.headers["naru-delivery"], message) });
    } catch (error) {
      // 4xx: calling again would not help.
      if (!response.headersSent) respond(response, 400, { error: `not a message: ${error.message}` });
    }
  });
}

/** Listens, and gives the url. */
export function listen(server, host, port) {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => resolve(`http://${host}:${server.address().port}/`));
  });
}

/** Calls a server of its own over a real socket, once with the right and once with a wrong secret. */
async function selfTest() {
  const server = makeServer("testsecret");
  const url = await listen(server, "127.0.0.1", 0);
  const body = JSON.stringify({ event: "message", text: "!echo works", sender: { name: "me" } });
  const call = (secret) => {
    const stamp = Math.floor(Date.now() / 1000);
    const mac = createHmac("sha256", secret).update(`${stamp}.${body}`).digest("hex");
    const headers = { "Naru-Signature": `t=${stamp},v1=${mac}`, "Naru-Delivery": "1" };
    return fetch(url, { method: "POST", headers, body });
  };
  const [right, wrong] = [await call("testsecret"), await call("wrong")];
  const text = await right.text();
  await wrong.text();
  server.close();
  server.closeAllConnections();
  if (text !== '{"replies":[{"text":"works"}]}' || wrong.status !== 401) throw new Error("self-test failed");
  console.log("self-test passed");
}

const HELP = `A small webhook bot for Naru.

  --host HOST      address to listen on (127.0.0.1)
  --port PORT      port to listen on (8700); 0 takes a free one
  --secret SECRET  the secret that Naru signs with; also NARU_WEBHOOK_SECRET; made up if not given
  --self-test      check that this bot works, and exit
  --help           this text`;

async function main() {
  const { values: options } = parseArgs({
    options: {
      host: { type: "string", default: "127.0.0.1" },
      port: { type: "string", default: "8700" },
      secret: { type: "string", default: process.env.NARU_WEBHOOK_SECRET ?? "" },
      "self-test": { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (options.help) return console.log(HELP);
  if (options["self-test"]) return selfTest();
  if (!/^[0-9]{1,5}$/.test(options.port)) throw new Error(`not a port: ${options.port}`);
  const secret = options.secret || randomBytes(24).toString("base64url");
  const server = makeServer(secret);
  const url = await listen(server, options.host, Number(options.port));
  // A program that reads the first line only may close its end after it: that is no reason to end.
  process.stdout.on("error", () => {});
  console.log(`listening on ${url}

Put this into the settings of your bot in Naru:

  {"webhook": {"url": "${url}", "secret": "${options.secret ? "(the secret you gave)" : secret}"}}

If Naru refuses the address as private, allow it in naru.toml and start Naru again:

  [hooks]
  allow = ["${options.host}"]

Then write !help into an approved room. Ctrl+C ends this bot.`);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  main().catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
