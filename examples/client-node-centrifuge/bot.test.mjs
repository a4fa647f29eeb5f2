// The bot as its README starts it, with a real server and a simulated phone. NARU_BIN names the binary.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { promisify } from "node:util";

import { answer } from "./bot.mjs";

const SECRET = "a secret of at least thirty-two bytes";
const KEYS = ["--secret", "test-secret", "--salt", "test-salt"];

const config = ({ bridge, http }) => `
[bridge]
listen = "${bridge}"
approve_devices = "auto"
approve_rooms = "auto"
[bridge.keys.default]
secret = "test-secret"
salt = "test-salt"
[http]
listen = "${http}"
[stomp]
enabled = false
[client]
token_hmac_secret = "${SECRET}"
[channels.namespaces.bot]
history_size = 1000
durability = "os"
force_recovery = true
`;

const base64url = (data) => Buffer.from(data).toString("base64url");

function token(claims) {
  const head = `${base64url('{"alg":"HS256","typ":"JWT"}')}.${base64url(JSON.stringify(claims))}`;
  return `${head}.${createHmac("sha256", SECRET).update(head).digest("base64url")}`;
}

// A process whose lines can be waited for.
function start(program, args, options = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"], ...options });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    child,
    async says(words) {
      const { value } = await lines.next();
      assert.ok(value?.includes(words), `${words} did not come, but ${value}`);
    },
    async end() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    },
  };
}

async function serve(folder, addresses) {
  writeFileSync(join(folder, "naru.toml"), config(addresses));
  const data = join(folder, "data");
  const args = ["serve", "--config", join(folder, "naru.toml"), "--data-dir", data];
  const server = start(process.env.NARU_BIN, args, { stdio: ["ignore", "pipe", "ignore"] });
  await server.says("is up");
  server.child.stdout.resume();
  const { bridge, http } = JSON.parse(readFileSync(join(data, "run.json"), "utf8"));
  return { ...server, addresses: { bridge, http } };
}

// A phone says something and gets this reply, or the test fails.
async function say(server, text, reply) {
  const args = ["phone", "--server", server.addresses.bridge, ...KEYS];
  args.push("--say", text, "--expect", reply, "--timeout", "60s");
  await promisify(execFile)(process.env.NARU_BIN, args, { timeout: 120_000 });
}

test("it answers what it knows and nothing else", () => {
  assert.deepEqual(answer({ text: "!echo hi there" }), [{ text: "echo: hi there" }]);
  assert.deepEqual(answer({ text: "only talk" }), []);
});

test("it answers a phone, also after the death of the server and its own", async (context) => {
  const folder = mkdtempSync(join(tmpdir(), "naru-"));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  let server = await serve(folder, { bridge: "127.0.0.1:0", http: "127.0.0.1:0" });
  context.after(() => server.end());
  const caps = [{ channels: ["bot:demo-bot", "room:demo-bot/*"], match: "wildcard", allow: ["sub", "pub", "hst"] }];
  const args = ["bot.mjs", "--url", `ws://${server.addresses.http}/connection/websocket`];
  args.push("--state", join(folder, "position.json"));
  const env = { ...process.env, NARU_TOKEN: token({ sub: "echo", caps }) };
  let bot = start(process.execPath, args, { env });
  context.after(() => bot.end());
  await bot.says("watching bot:demo-bot");
  await say(server, "!echo 안녕", "echo: 안녕");

  await server.end();
  server = await serve(folder, server.addresses);
  // Without waiting for the bot to be back: what it misses comes later.
  await say(server, "!echo again", "echo: again");
  await bot.says("watching bot:demo-bot");

  await bot.end();
  const asked = say(server, "!echo once more", "echo: once more");
  bot = start(process.execPath, args, { env });
  await asked;
});
