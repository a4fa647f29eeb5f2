// The bot as its README starts it, with a real server and a simulated phone. NARU_BIN names the binary.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { promisify } from "node:util";

import { answer } from "./bot.mjs";
import { Naru } from "./naru.mjs";

const SECRET = "a secret of at least thirty-two bytes";

const CONFIG = `
[bridge]
listen = "127.0.0.1:0"
approve_devices = "auto"
approve_rooms = "auto"
[bridge.keys.default]
secret = "test-secret"
salt = "test-salt"
[http]
listen = "127.0.0.1:0"
[stomp]
enabled = false
[client]
token_hmac_secret = "${SECRET}"
[channels.namespaces.bot]
history_size = 1000
durability = "os"
force_recovery = true
`;

class Server extends Naru {
  // A phone says something and gets this reply, or the test fails.
  async say(text, reply) {
    const { bridge } = JSON.parse(readFileSync(join(this.folder, "data", "run.json"), "utf8"));
    const args = ["phone", "--server", bridge, "--secret", "test-secret", "--salt", "test-salt"];
    args.push("--say", text, "--expect", reply, "--timeout", "60s");
    await promisify(execFile)(process.env.NARU_BIN, args, { timeout: 120_000 });
  }
}

const base64url = (data) => Buffer.from(data).toString("base64url");

function token(claims) {
  const head = `${base64url('{"alg":"HS256","typ":"JWT"}')}.${base64url(JSON.stringify(claims))}`;
  return `${head}.${createHmac("sha256", SECRET).update(head).digest("base64url")}`;
}

// The bot, as its README starts it.
class Bot {
  constructor(server) {
    const channels = ["bot:demo-bot", "room:demo-bot/*"];
    const caps = [{ channels, match: "wildcard", allow: ["sub", "pub", "hst"] }];
    const args = ["bot.mjs", "--url", `ws://${server.http}/connection/websocket`];
    args.push("--state", join(server.folder, "position.json"));
    const env = { ...process.env, NARU_TOKEN: token({ sub: "echo", caps }) };
    this.child = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "inherit"] });
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  // Waits for its next line, which must have these words.
  async says(words) {
    const { value } = await this.lines.next();
    assert.ok(value?.includes(words), `${words} did not come, but ${value}`);
  }

  async stop() {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await ended;
  }
}

test("it answers what it knows and nothing else", () => {
  assert.deepEqual(answer({ text: "!echo hi there" }), [{ text: "echo: hi there" }]);
  assert.deepEqual(answer({ text: "only talk" }), []);
});

test("it answers a phone, also after the death of the server and its own", async (context) => {
  const server = await Server.start(CONFIG);
  context.after(() => server.stop());
  let bot = new Bot(server);
  context.after(() => bot.stop());
  await bot.says("watching bot:demo-bot");
  await server.say("!echo 안녕", "echo: 안녕");

  await server.restart("SIGKILL");
  // Without waiting for the bot to be back: what it misses comes later.
  await server.say("!echo again", "echo: again");
  await bot.says("watching bot:demo-bot");

  await bot.stop();
  const asked = server.say("!echo once more", "echo: once more");
  bot = new Bot(server);
  await asked;
});
