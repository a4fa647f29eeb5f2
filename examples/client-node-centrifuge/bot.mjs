#!/usr/bin/env node
// A small bot for Naru that is a Centrifuge client. Node 18 or newer, and the stock SDK.
//
// It watches all rooms of a bot, answers `!echo` and `!help`, and stays silent otherwise. It keeps how far it
// has come in a file, so that nothing is missed or answered twice when it or the server restarts.

import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

/** The replies to one message, as docs/guide/client-bots.md describes them. Empty is silence. */
export function answer(message) {
  const [command, ...words] = message.text.split(" ");
  const rest = words.join(" ").trim();
  if (command === "!echo") return [{ text: `echo: ${rest || "..."}` }];
  if (command === "!help") return [{ text: "!echo TEXT" }];
  return [];
}

/** Sends an answer until it is kept, or refused for good. */
async function say(client, message, replies) {
  // The same key answers once, however often it is sent.
  const body = { message: message.id, key: `answer-${message.id}`, replies };
  for (;;) {
    try {
      await client.publish(message.channel, body);
      return;
    } catch (error) {
      // 102, 103 and 107: no such room, not approved, not understood. It would be refused again.
      if ([102, 103, 107].includes(error.code)) {
        console.error(`refused: ${error.message}`);
        return;
      }
      await pause(500);
    }
  }
}

function read(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return undefined; // The first start: what comes next is what counts.
  }
}

function write(file, position) {
  // Written beside and renamed, so that it is never half there.
  writeFileSync(`${file}.new`, JSON.stringify(position));
  renameSync(`${file}.new`, file);
}

export function run({ url, bot, token, state }) {
  const client = new Centrifuge(url, { websocket: WebSocket, token, maxReconnectDelay: 2_000 });
  const since = read(state);
  const rooms = client.newSubscription(`bot:${bot}`, since ? { since } : {});
  let epoch = since?.epoch;
  let work = Promise.resolve();
  rooms.on("subscribed", (context) => {
    epoch = context.streamPosition?.epoch;
    if (context.wasRecovering && !context.recovered) console.error("some messages were missed");
    console.log(`watching bot:${bot}`);
  });
  rooms.on("publication", ({ data, offset }) => {
    // One after the other, in order; the position is kept when the answer is.
    const position = { offset, epoch };
    work = work.then(async () => {
      // What the bot itself said comes as `reply`. More kinds may come.
      const replies = data.event === "message" ? answer(data) : [];
      if (replies.length > 0) await say(client, data, replies);
      write(state, position);
    });
  });
  rooms.on("error", ({ error }) => console.error(`not subscribed: ${error.message}`));
  rooms.on("unsubscribed", ({ code, reason }) => console.error(`not watching: ${code} ${reason}`));
  client.on("disconnected", ({ code, reason }) => console.error(`ended: ${code} ${reason}`));
  rooms.subscribe();
  client.connect();
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values } = parseArgs({
    options: {
      url: { type: "string", default: "ws://127.0.0.1:8080/connection/websocket" },
      bot: { type: "string", default: "demo-bot" },
      token: { type: "string", default: process.env.NARU_TOKEN ?? "" },
      state: { type: "string", default: "position.json" },
    },
  });
  run(values);
}
