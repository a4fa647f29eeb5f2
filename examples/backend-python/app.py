#!/usr/bin/env python3
"""The application behind a chat: Naru asks it who may connect, subscribe and publish, and passes calls on.
Python 3.8 or newer, standard library only.

People come with a cookie that a login page of yours would set (here: `session=NAME`), enter rooms that are not
closed to them, may not shout, and can ask for the time of day. The protocol is described in
docs/guide/backend.md.
"""

import argparse
import hashlib
import hmac
import http.cookies
import json
import os
import secrets
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

AGE_MAX_SECONDS = 300
BODY_BYTES_MAX = 1024 * 1024
SESSION_SECONDS = 3600
FRIENDS_OF_STAFF = {"ann", "bo"}


def signature_is_valid(header, body, secret, now=None):
    """Whether `header` (Naru-Signature) was made with `secret` over `body` (bytes) just now."""
    now = time.time() if now is None else now
    parts = [part.partition("=")[::2] for part in header.split(",")]
    stamp = next((value for name, value in parts if name == "t"), "")
    if not (stamp.isascii() and stamp.isdigit()) or abs(now - int(stamp)) > AGE_MAX_SECONDS:
        return False
    expected = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    # During a change of secrets there are two signatures; one that fits is enough.
    return any(n == "v1" and hmac.compare_digest(v.encode(), expected.encode()) for n, v in parts)


def result(**fields):
    return {"result": fields}


def error(code, message, temporary=False):
    return {"error": {"code": code, "message": message, "temporary": temporary}}


def disconnect(code, reason):
    return {"disconnect": {"code": code, "reason": reason}}


class Application:
    """What is decided. Each event of docs/guide/backend.md is a method that gets the request."""

    def __init__(self, clock=time.time):
        self.clock = clock
        self.lock = threading.Lock()
        self.banned = set()
        self.here = {}  # Connection -> user; what `disconnected` did not reach us for is forgotten by `refresh`.

    def connect(self, request, headers):
        """Who is it? A real application would look the session up."""
        cookie = http.cookies.SimpleCookie(headers.get("Cookie", ""))
        user = cookie["session"].value if "session" in cookie else ""
        if not user:
            return disconnect(4501, "log in first")
        if user in self.banned:
            return disconnect(4500, "banned")
        with self.lock:
            self.here[request["client"]] = user
        expire_at = int(self.clock()) + SESSION_SECONDS
        return result(user=user, expire_at=expire_at, info={"name": user.title()})

    def refresh(self, request, headers):
        """The hour is over: does it go on?"""
        if request["user"] in self.banned:
            return result(expired=True)
        return result(expire_at=int(self.clock()) + SESSION_SECONDS)

    def subscribe(self, request, headers):
        """May it enter? `hall:staff` is for some only."""
        if request["channel"] == "hall:staff" and request["user"] not in FRIENDS_OF_STAFF:
            return error(403, "this room is for staff")
        return result(data={"welcome": request["channel"]})

    def publish(self, request, headers):
        """May it say that? Text gets its blanks trimmed; shouting is refused."""
        data = request.get("data")
        text = data.get("text") if isinstance(data, dict) else None
        if not isinstance(text, str) or not text.strip():
            return error(400, "a message has a text")
        if len(text) > 3 and text.isupper():
            return error(422, "please do not shout")
        return result(data={"text": text.strip(), "at": int(self.clock())})

    def rpc(self, request, headers):
        """Calls. STOMP's /app/time is the method `time`; `POST /api/rpc` comes without a user."""
        method = request["method"]
        if method == "time":
            return result(data={"time": int(self.clock())})
        if method == "who":
            with self.lock:
                return result(data={"users": sorted(set(self.here.values()))})
        if method == "ban" and request["transport"] == "server_api":
            self.banned.add(request["data"]["user"])
            return result(data={})
        return error(404, "no such method")

    def disconnected(self, request, headers):
        with self.lock:
            self.here.pop(request["client"], None)
        return {}


EVENTS = ("connect", "refresh", "subscribe", "publish", "rpc", "disconnected")


class Handler(BaseHTTPRequestHandler):
    # Naru keeps connections open between calls.
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_BYTES_MAX:
            self.close_connection = True
            return self.respond(413)
        body = self.rfile.read(length)
        signature = self.headers.get("Naru-Signature", "")
        if not signature_is_valid(signature, body, self.server.secret):
            return self.respond(401)
        event = self.path.strip("/")
        if event not in EVENTS:
            return self.respond(404)
        request = json.loads(body)
        answer = getattr(self.server.application, event)(request, self.headers)
        if self.server.verbose:
            say(f"{event} {request.get('user', '')}: {json.dumps(answer)}")
        self.respond(200, answer)

    def respond(self, status, document=None):
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host, port, secret, verbose=False):
        super().__init__((host, port), Handler)
        self.secret, self.verbose, self.application = secret, verbose, Application()


def say(text):
    """Prints in one piece, also where nobody listens any more."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")


def settings(url, secret):
    endpoints = "\n".join(f'{event}.endpoint = "{url}/{event}"' for event in EVENTS)
    return f"""[backend]
allow = ["127.0.0.1"]
secret = "{secret}"
http_headers = ["Cookie"]
{endpoints}

[channels.namespaces.hall]
subscribe_proxy_enabled = true
publish_proxy_enabled = true
"""


def main(arguments=None):
    parser = argparse.ArgumentParser(description="An application behind Naru's chat.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8710, help="port to listen on; 0 takes a free one")
    parser.add_argument(
        "--secret",
        default=os.environ.get("NARU_BACKEND_SECRET"),
        help="the secret that Naru signs with; also NARU_BACKEND_SECRET; made up if not given",
    )
    parser.add_argument("--verbose", action="store_true", help="print each call")
    options = parser.parse_args(arguments)
    secret = options.secret or secrets.token_urlsafe(24)
    try:
        server = Server(options.host, options.port, secret, options.verbose)
    except OSError as failure:
        sys.exit(f"cannot listen on {options.host}:{options.port}: {failure}")
    url = f"http://{options.host}:{server.server_port}"
    shown = "the secret you gave" if options.secret else secret
    say(f"listening on {url}\n\nPut this into naru.toml and start Naru:\n\n{settings(url, shown)}")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
