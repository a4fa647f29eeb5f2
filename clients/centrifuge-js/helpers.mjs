// What all checks of this SDK need: both of its encodings, and waiting for what it tells.

import { Centrifuge } from "centrifuge";
import { Centrifuge as ProtobufCentrifuge } from "centrifuge/build/protobuf";

export const encodings = [
  ["JSON", Centrifuge, (value) => value, (value) => value],
  ["Protobuf", ProtobufCentrifuge, (value) => Buffer.from(JSON.stringify(value)), (bytes) => JSON.parse(Buffer.from(bytes))],
];

export const next = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));

// Collects publications and waits for a number of them.
export function collect(subscription, read) {
  const got = [];
  let wake = () => {};
  subscription.on("publication", (context) => {
    got.push({ ...context, data: read(context.data) });
    wake();
  });
  return {
    got,
    async until(count) {
      while (got.length < count) await new Promise((resolve) => (wake = resolve));
      return got;
    },
  };
}

export async function subscribed(client, channel, options) {
  const subscription = client.newSubscription(channel, options);
  const done = next(subscription, "subscribed");
  subscription.subscribe();
  client.connect();
  return [subscription, await done];
}
