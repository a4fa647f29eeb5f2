// A real `naru serve` on free ports in a temporary folder. NARU_BIN names the binary.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const PASSCODE = "correct horse";

const CONFIG = `
[bridge]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
[stomp]
listen = "127.0.0.1:0"
[[users]]
name = "ann"
password = "${PASSCODE}"
role = "viewer"
[channels.default]
allow_subscribe_for_client = true
allow_publish_for_client = true
[channels.namespaces.kept]
history_size = 1000
durability = "disk"
force_recovery = true
allow_subscribe_for_client = true
allow_publish_for_client = true
`;

export class Server {
  static async start() {
    const server = new Server();
    server.folder = mkdtempSync(join(tmpdir(), "naru-"));
    writeFileSync(join(server.folder, "naru.toml"), CONFIG);
    await server.launch();
    return server;
  }

  async launch() {
    const data = join(this.folder, "data");
    const config = join(this.folder, "naru.toml");
    this.child = spawn(process.env.NARU_BIN, ["serve", "--config", config, "--data-dir", data], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let errors = "";
    this.child.stderr.on("data", (text) => (errors += text));
    // It says so when everything listens; where, it has written down before.
    await new Promise((resolve, reject) => {
      this.child.stdout.once("data", resolve);
      this.child.once("exit", () => reject(new Error(`the server ended: ${errors}`)));
    });
    this.child.stdout.resume();
    this.http = JSON.parse(readFileSync(join(data, "run.json"), "utf8")).http;
  }

  get url() {
    return `ws://${this.http}/stomp`;
  }

  // The same port again, so that clients find it.
  async restart(signal) {
    const port = this.http;
    await this.end(signal);
    const config = join(this.folder, "naru.toml");
    const text = readFileSync(config, "utf8");
    writeFileSync(config, text.replace(/\[http\]\nlisten = ".*"/, `[http]\nlisten = "${port}"`));
    await this.launch();
  }

  async end(signal) {
    const ended = once(this.child, "exit");
    this.child.kill(signal);
    await ended;
  }

  async stop() {
    await this.end("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }
}
