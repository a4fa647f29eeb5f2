#!/usr/bin/env python3
"""A small bot for Naru that is a STOMP client. Python 3.9 or newer, and stomp.py.

It watches all rooms of a bot, answers `!echo` and `!help`, and stays silent otherwise. The server keeps
how far it has come under a name, so that nothing is missed or answered twice when one of them restarts.
"""

import argparse
import json
import os
import queue
import sys
import threading
import time

import stomp

PAUSE_SECONDS = 1
RECEIPT_SECONDS = 30


def answer(message):
    """The replies to one message, as docs/guide/client-bots.md describes them. Empty is silence."""
    command, _, rest = message["text"].partition(" ")
    if command == "!echo":
        return [{"text": f"echo: {rest.strip() or '...'}"}]
    if command == "!help":
        return [{"text": "!echo TEXT"}]
    return []


class Connection(stomp.ConnectionListener):
    """One connection: what comes in is put into a queue, because the thread that reads must not wait."""

    def __init__(self, server, login, passcode):
        self.frames = queue.Queue()
        self.receipts = {}
        self.changed = threading.Condition()
        self.refusal = None
        self.is_over = False
        self.link = stomp.Connection12([server], reconnect_attempts_max=1, heartbeats=(10000, 10000))
        self.link.set_listener("", self)
        self.link.connect(login, passcode, wait=True)

    def on_message(self, frame):
        self.frames.put(frame)

    def on_receipt(self, frame):
        with self.changed:
            self.receipts[frame.headers["receipt-id"]] = True
            self.changed.notify_all()

    def on_error(self, frame):
        with self.changed:
            self.refusal = frame.headers.get("code", "unknown")
            print(f"refused: {frame.headers.get('message')}", file=sys.stderr)

    def on_disconnected(self):
        with self.changed:
            self.is_over = True
            self.changed.notify_all()
        self.frames.put(None)

    def kept(self, receipt):
        """Waits for a receipt: what was sent with it is kept. False when the connection ends before."""
        with self.changed:
            self.changed.wait_for(lambda: receipt in self.receipts or self.is_over, RECEIPT_SECONDS)
            return self.receipts.pop(receipt, False)


class Bot:
    def __init__(self, options):
        self.options = options
        # An answer that the server refuses for good would be refused again.
        self.given_up = set()

    def run(self):
        """Connects, and connects again, for ever."""
        while True:
            try:
                host, _, port = self.options.server.rpartition(":")
                passcode = self.options.passcode
                connection = Connection((host, int(port)), self.options.login, passcode)
                try:
                    self.watch(connection)
                finally:
                    connection.link.transport.disconnect_socket()
            except stomp.exception.StompException as error:
                print(f"not connected: {type(error).__name__}", file=sys.stderr)
            time.sleep(PAUSE_SECONDS)

    def watch(self, connection):
        bot, name = self.options.bot, self.options.name
        # With `durable-id` the server keeps the position of the last message that was acknowledged.
        headers = {"durable-id": name, "receipt": "watching"}
        connection.link.subscribe(f"/topic/bot:{bot}", id="s", ack="client", headers=headers)
        if not connection.kept("watching"):
            return
        print(f"watching bot:{bot}", flush=True)
        while (frame := connection.frames.get()) is not None:
            event = json.loads(frame.body)
            # What the bot itself said comes as `reply`. More kinds may come.
            if event["event"] == "message" and not self.handle(connection, event):
                return
            connection.link.ack(frame.headers["ack"])

    def handle(self, connection, message):
        """Answers a message. False if it is not certain that the answer is kept."""
        replies = answer(message)
        if not replies or message["id"] in self.given_up:
            return True
        receipt = f"answer-{message['id']}"
        body = json.dumps({"message": message["id"], "replies": replies})
        # The same key answers once, however often it is sent.
        headers = {"idempotency-key": receipt, "receipt": receipt}
        destination = f"/topic/{message['channel']}"
        connection.link.send(destination, body, content_type="application/json", headers=headers)
        if connection.kept(receipt):
            return True
        if connection.refusal in ("forbidden", "bad_body", "unknown_destination"):
            self.given_up.add(message["id"])
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="127.0.0.1:61613", metavar="HOST:PORT")
    parser.add_argument("--bot", default="demo-bot", help="whose rooms are watched")
    parser.add_argument("--login", default="echo", help="an account with the role operator")
    parser.add_argument("--passcode", default=os.environ.get("NARU_PASSCODE", ""))
    parser.add_argument("--name", default="echo", help="under which the server keeps the position")
    Bot(parser.parse_args()).run()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
