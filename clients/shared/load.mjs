// Publishers over HTTP that do not give up: each says its numbers in turn, and a number again, with the same
// key, until it is acknowledged. What the server acknowledged is the account that subscribers are held to.

export class Load {
  constructor(server, apiKey, channel, publishers) {
    this.server = server;
    this.headers = { "X-API-Key": apiKey, "Content-Type": "application/json" };
    this.channel = channel;
    this.acknowledged = [];
    this.retries = 0;
    this.isOver = false;
    this.wake = () => {};
    this.running = Array.from({ length: publishers }, (_, name) => this.#publish(name));
  }

  async #publish(name) {
    for (let number = 0; !this.isOver; number++) {
      const data = `${name}:${number}`;
      const offset = await this.#untilAcknowledged(data);
      this.acknowledged.push({ data, offset });
      this.wake();
    }
  }

  async #untilAcknowledged(data) {
    const body = JSON.stringify({ channel: this.channel, data, idempotency_key: data });
    for (;;) {
      await this.server.up;
      try {
        const url = `http://${this.server.http}/api/publish`;
        const answer = await fetch(url, { method: "POST", headers: this.headers, body });
        const { result } = answer.ok ? await answer.json() : {};
        if (result) return result.offset;
      } catch {
        // It is going down, or has gone.
      }
      this.retries++;
    }
  }

  // Waits until so many more are acknowledged.
  async more(count) {
    const goal = this.acknowledged.length + count;
    while (this.acknowledged.length < goal) await new Promise((resolve) => (this.wake = resolve));
  }

  // All that was acknowledged, in the order of the channel.
  async stop() {
    this.isOver = true;
    await Promise.all(this.running);
    const account = this.acknowledged.sort((one, other) => one.offset - other.offset);
    return account.map((each) => each.data);
  }
}
