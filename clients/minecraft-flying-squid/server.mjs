// A Minecraft Java server (flying-squid) on one port of 127.0.0.1, with a flat world in memory:
//
//     node server.mjs PORT [VERSION]
//
// Prints `ready on 127.0.0.1:PORT` when players could join. A line `stop` on standard input ends
// it with status 0, as it does Mojang's server.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { createMCServer } = require("flying-squid");
const settings = require("flying-squid/config/default-settings.json");

const port = Number(process.argv[2]);
const version = process.argv[3] ?? "1.16.5";
if (!Number.isInteger(port) || port < 1 || port > 65535) {
  console.error("usage: node server.mjs PORT [VERSION]");
  process.exit(64);
}

const server = createMCServer({
  ...settings,
  host: "127.0.0.1",
  port,
  version,
  // Names are not asked for at Mojang's servers.
  "online-mode": false,
  "max-players": 10,
  motd: "A Minecraft server of the tests",
  generation: { name: "superflat", options: {} },
  // Neither world nor logs on disk.
  worldFolder: undefined,
  logging: false,
});
// It takes up its answer to signals a moment after it listens, when this module has come.
await Promise.all([server.waitForReady(30_000), import("exit-hook")]);
setImmediate(() => console.log(`ready on 127.0.0.1:${port}`));

