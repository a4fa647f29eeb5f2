// What the checks configure, and tokens for it.

import { createHmac } from "node:crypto";

import { Naru } from "./naru.mjs";

export const SECRET = "a secret of at least thirty-two bytes";
export const API_KEY = "api-key";

const CONFIG = `
[bridge]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
api_keys = ["${API_KEY}"]
[stomp]
listen = "127.0.0.1:0"
[client]
token_hmac_secret = "${SECRET}"
ping_interval = "2s"
pong_timeout = "1s"
expired_close_delay = "1s"
[channels.namespaces.chat]
history_size = 100
durability = "disk"
force_recovery = true
presence = true
join_leave = true
force_push_join_leave = true
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
allow_history_for_subscriber = true
allow_presence_for_subscriber = true
[channels.namespaces.kept]
history_size = 100000
durability = "disk"
force_recovery = true
allow_subscribe_for_client = true
[channels.namespaces.cache]
history_size = 1
durability = "memory"
force_recovery = true
force_recovery_mode = "cache"
auto_cache_recover = true
allow_subscribe_for_client = true
allow_publish_for_client = true
[channels.namespaces.delta]
history_size = 10
durability = "memory"
force_recovery = true
allowed_delta_types = ["fossil"]
delta_publish = true
allow_subscribe_for_client = true
allow_publish_for_client = true
[channels.namespaces.tagged]
history_size = 10
durability = "memory"
force_recovery = true
allow_tags_filter = true
allow_subscribe_for_client = true
[channels.namespaces.closed]
history_size = 10
durability = "memory"
[channels.namespaces.dialog]
allow_user_limited_channels = true
allow_publish_for_subscriber = true
`;

export class Server extends Naru {
  // `extra` goes behind the configuration, `settings` are flags of the form KEY=VALUE.
  static start(extra = "", settings = []) {
    return super.start(CONFIG + extra, settings);
  }

  get url() {
    return `ws://${this.http}/connection/websocket`;
  }

  // A call of the server API; its result.
  async api(method, body) {
    const answer = await fetch(`http://${this.http}/api/${method}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-API-Key": API_KEY },
      body: JSON.stringify(body),
    });
    const { result, error } = await answer.json();
    if (error) throw Object.assign(new Error(error.message), error);
    return result;
  }
}

const base64url = (data) => Buffer.from(data).toString("base64url");

export function token(claims, secret = SECRET) {
  const head = `${base64url('{"alg":"HS256","typ":"JWT"}')}.${base64url(JSON.stringify(claims))}`;
  return `${head}.${createHmac("sha256", secret).update(head).digest("base64url")}`;
}

export const seconds = (from_now) => Math.floor(Date.now() / 1000) + from_now;
