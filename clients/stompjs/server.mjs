// What the checks configure.

import { Naru } from "./naru.mjs";

export const PASSCODE = "correct horse";
export const API_KEY = "api-key";

const CONFIG = `
[bridge]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
api_keys = ["${API_KEY}"]
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
history_size = 100000
durability = "disk"
force_recovery = true
allow_subscribe_for_client = true
allow_publish_for_client = true
`;

export class Server extends Naru {
  static start() {
    return super.start(CONFIG);
  }

  get url() {
    return `ws://${this.http}/stomp`;
  }
}
