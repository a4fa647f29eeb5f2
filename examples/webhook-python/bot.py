#!/usr/bin/env python3
"""A small webhook bot for Naru. Python 3.8 or newer, standard library only.

It checks the signature and the time of every call, answers `!echo`, `!dice`, `!picture` and `!help`,
stays silent otherwise, and gives a repeated delivery the answer it gave the first time.
"""

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import os
import random
import secrets
import struct
import sys
import threading
import time
import zlib
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

AGE_MAX_SECONDS = 300
BODY_BYTES_MAX = 1024 * 1024
DELIVERIES_MAX = 1000


def signature_is_valid(header, body, secret, now=None):
    """Whether `header` (Naru-Signature) was made with `secret` over `body` (bytes) just now."""
    now = time.time() if now is None else now
    stamp, signatures = None, []
    for part in header.split(","):
        name, _, value = part.partition("=")
        if name == "t":
            stamp = value
        elif name == "v1":
            signatures.append(value)
    if stamp is None or not stamp.isascii() or not stamp.isdigit():
        return False
    if abs(now - int(stamp)) > AGE_MAX_SECONDS:
        return False
    expected = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    # During a change of secrets there are two signatures; one that fits is enough. The comparison takes
    # the same time wherever the first difference is.
    return any(hmac.compare_digest(expected.encode(), s.encode()) for s in signatures)


def picture(word):
    """A PNG of 64×64 pixels: five by five blocks that stand for the word."""
    digest = hashlib.sha256(word.encode()).digest()
    ink, ground = digest[:3], b"\xf4\xf4\xf4"
    rows = []
    for y in range(64):
        row = b"\x00"  # No filter.
        for x in range(64):
            column, line = (x - 2) // 12, (y - 2) // 12
            inside = 0 <= column < 5 and 0 <= line < 5
            is_ink = inside and digest[3 + line * 3 + min(column, 4 - column)] & 1
            row += ink if is_ink else ground
        rows.append(row)

    def chunk(kind, data):
        checksum = binascii.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )


def answer(message):
    """The replies to one message: a list as docs/guide/webhooks.md describes it. Empty is silence."""
    command, _, rest = message["text"].partition(" ")
    rest = rest.strip()
    if command == "!echo":
        return [{"text": rest or "Usage: !echo TEXT"}]
    if command == "!dice":
        sides = int(rest) if rest.isascii() and rest.isdigit() and len(rest) < 5 else 6
        sides = max(sides, 2)
        return [{"text": f"{message['sender']['name']}: {random.randint(1, sides)} (1-{sides})"}]
    if command == "!picture":
        image = base64.b64encode(picture(rest or "Naru")).decode()
        return [{"images": [{"base64": image}]}]
    if command == "!help":
        return [{"text": "!echo TEXT\n!dice [SIDES]\n!picture [WORD]"}]
    return []


class Answers:
    """The answers given lately, by delivery. Naru repeats a delivery when it does not hear our answer;
    without this, a repeated `!dice` would be thrown again."""

    def __init__(self):
        self.lock = threading.Lock()
        self.by_delivery = OrderedDict()

    def get_or_make(self, delivery, make):
        # One lock for all: answers are quick here. A bot that calls others would lock per delivery.
        with self.lock:
            if delivery not in self.by_delivery:
                self.by_delivery[delivery] = make()
                while len(self.by_delivery) > DELIVERIES_MAX:
                    self.by_delivery.popitem(last=False)
            return self.by_delivery[delivery]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # Keeps connections open between calls.
    timeout = 30  # Ends connections that stay silent.
    wbufsize = 65536  # Head and body leave together; apart, the second waits for 40 ms.

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            return self.respond(413, {"error": "the body needs a length of at most 1 MiB"})
        body = self.rfile.read(int(length))
        # The signature first: nothing of an unsigned body is looked at.
        if not signature_is_valid(self.headers.get("Naru-Signature", ""), body, self.server.secret):
            return self.respond(401, {"error": "the signature is missing, wrong or too old"})
        try:
            message = json.loads(body)
            if message.get("event") != "message":
                return self.respond(204)  # Kinds of events that come later are not for us.
            delivery = self.headers.get("Naru-Delivery", "")
            replies = self.server.answers.get_or_make(delivery, lambda: answer(message))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # 4xx: calling again would not help.
            return self.respond(400, {"error": f"not a message: {error!r}"})
        return self.respond(200, {"replies": replies})

    def do_GET(self):
        self.respond(200, {"ok": True})

    def respond(self, status, document=None):
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        if document is not None:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        if self.server.verbose:
            super().log_message(format, *args)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host, port, secret, verbose=False):
        super().__init__((host, port), Handler)
        self.secret, self.verbose, self.answers = secret, verbose, Answers()


def self_test():
    """Calls a server of its own over a real socket, once with the right and once with a wrong secret."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    server = Server("127.0.0.1", 0, "testsecret")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    body = json.dumps({"event": "message", "text": "!echo works", "sender": {"name": "me"}}).encode()

    def call(secret):
        stamp = str(int(time.time()))
        mac = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        headers = {"Naru-Signature": f"t={stamp},v1={mac}", "Naru-Delivery": "1"}
        with urlopen(Request(f"http://127.0.0.1:{server.server_port}/", body, headers)) as response:
            return json.load(response)

    assert call("testsecret") == {"replies": [{"text": "works"}]}
    try:
        call("wrong")
        raise AssertionError("a wrong signature was taken")
    except HTTPError as error:
        assert error.code == 401
        error.close()
    server.shutdown()
    server.server_close()
    print("self-test passed")


def say(text):
    """Prints in one piece. A program that reads the first line only may close its end after it: that is
    no reason to end."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")


def main(arguments=None):
    parser = argparse.ArgumentParser(description="A small webhook bot for Naru.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8700, help="port to listen on; 0 takes a free one")
    parser.add_argument(
        "--secret",
        default=os.environ.get("NARU_WEBHOOK_SECRET"),
        help="the secret that Naru signs with; also NARU_WEBHOOK_SECRET; made up if not given",
    )
    parser.add_argument("--verbose", action="store_true", help="print each call")
    parser.add_argument("--self-test", action="store_true", help="check that this bot works, and exit")
    options = parser.parse_args(arguments)
    if options.self_test:
        return self_test()
    is_made_up = not options.secret
    secret = options.secret or secrets.token_urlsafe(24)
    try:
        server = Server(options.host, options.port, secret, options.verbose)
    except OSError as error:
        sys.exit(f"cannot listen on {options.host}:{options.port}: {error}")
    url = f"http://{options.host}:{server.server_port}/"
    shown = secret if is_made_up else "(the secret you gave)"
    say(
        f"""listening on {url}

Put this into the settings of your bot in Naru:

  {{"webhook": {{"url": "{url}", "secret": "{shown}"}}}}

If Naru refuses the address as private, allow it in naru.toml and start Naru again:

  [hooks]
  allow = ["{options.host}"]

Then write !help into an approved room. Ctrl+C ends this bot."""
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


if __name__ == "__main__":
    main()
