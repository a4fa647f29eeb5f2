// A real `naru serve` in a temporary folder. NARU_BIN names the binary. It stands beside the checks when they run.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class Naru {
  // `settings` are flags of the form KEY=VALUE.
  static async start(config, settings = []) {
    const server = new this();
    server.flags = settings.flatMap((setting) => ["--set", setting]);
    server.folder = mkdtempSync(join(tmpdir(), "naru-"));
    writeFileSync(join(server.folder, "naru.toml"), config);
    await server.launch();
    return server;
  }

  launch() {
    this.up = this.#launch();
    return this.up;
  }

  async #launch() {
    const data = join(this.folder, "data");
    const config = join(this.folder, "naru.toml");
    const serve = ["serve", "--config", config, "--data-dir", data, ...this.flags];
    this.child = spawn(process.env.NARU_BIN, serve, {
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

  // The same port again, so that clients find it. Gives the exit code of the one that ended.
  async restart(signal) {
    const port = this.http;
    let isUp;
    this.up = new Promise((resolve) => (isUp = resolve));
    const code = await this.end(signal);
    const config = join(this.folder, "naru.toml");
    const text = readFileSync(config, "utf8");
    writeFileSync(config, text.replace(/\[http\]\nlisten = ".*"/, `[http]\nlisten = "${port}"`));
    await this.#launch();
    isUp();
    return code;
  }

  async end(signal) {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return this.child.exitCode;
    const ended = once(this.child, "exit");
    this.child.kill(signal);
    return (await ended)[0];
  }

  async stop() {
    await this.end("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }
}
