"""Run with: python3 -m unittest. With NARU_BIN in the environment a real server takes part."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import app

SECRET = "testsecret"
NOW = 1767225600


def sign(body, secret=SECRET, at=None):
    stamp = str(int(time.time() if at is None else at))
    mac = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={mac}"


class SignatureTest(unittest.TestCase):
    BODY = b'{"event":"message"}'
    # The vector of docs/guide/webhooks.md.
    HEADER = "t=1767225600,v1=b01ee30da8ed3f84d7f8acb6f2d35250686454e2b69550f757f14f6b2ca8397a"

    def test_the_vector_of_the_guide_is_valid(self):
        self.assertTrue(app.signature_is_valid(self.HEADER, self.BODY, SECRET, NOW))

    def test_anything_else_is_not(self):
        for header, body, now in [
            (self.HEADER, self.BODY + b" ", NOW),
            (self.HEADER, self.BODY, NOW + 301),
            ("t=1767225600", self.BODY, NOW),
            ("t=1767225600,v1=é", self.BODY, NOW),
            ("", self.BODY, NOW),
        ]:
            self.assertFalse(app.signature_is_valid(header, body, SECRET, now), header)


class ApplicationTest(unittest.TestCase):
    def setUp(self):
        self.application = app.Application(clock=lambda: NOW)

    def ask(self, event, headers=None, **request):
        return getattr(self.application, event)({"client": "c", **request}, headers or {})

    def test_a_cookie_lets_somebody_in_and_nothing_else_does(self):
        known = self.ask("connect", {"Cookie": "session=ann"})
        self.assertEqual(known["result"]["user"], "ann")
        self.assertEqual(known["result"]["expire_at"], NOW + 3600)
        self.assertEqual(self.ask("connect")["disconnect"]["code"], 4501)

    def test_a_room_may_be_closed_to_some(self):
        staff = {"channel": "hall:staff"}
        self.assertIn("result", self.ask("subscribe", user="ann", **staff))
        self.assertEqual(self.ask("subscribe", user="eve", **staff)["error"]["code"], 403)

    def test_what_is_said_is_trimmed_and_not_shouted(self):
        said = self.ask("publish", user="ann", data={"text": " hi "})
        self.assertEqual(said["result"]["data"], {"text": "hi", "at": NOW})
        for data in ({"text": "HELLO"}, {"text": " "}, {}, [], None):
            self.assertIn("error", self.ask("publish", user="ann", data=data), data)

    def test_somebody_who_is_banned_has_to_go(self):
        ban = {"method": "ban", "data": {"user": "ann"}}
        self.assertIn("error", self.ask("rpc", transport="websocket", **ban))
        self.assertIn("result", self.ask("rpc", transport="server_api", **ban))
        self.assertEqual(self.ask("refresh", user="ann"), {"result": {"expired": True}})
        refused = self.ask("connect", {"Cookie": "session=ann"})
        self.assertEqual(refused["disconnect"]["code"], 4500)

    def test_it_knows_who_is_here(self):
        self.ask("connect", {"Cookie": "session=ann"})
        who = {"method": "who", "transport": "websocket"}
        self.assertEqual(self.ask("rpc", **who)["result"]["data"], {"users": ["ann"]})
        self.ask("disconnected")
        self.assertEqual(self.ask("rpc", **who)["result"]["data"], {"users": []})


def start():
    server = app.Server("127.0.0.1", 0, SECRET)
    # Looks often whether it should end, so that the tests are quick.
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


class ServerTest(unittest.TestCase):
    def setUp(self):
        self.server = start()
        self.connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=5)

    def tearDown(self):
        self.connection.close()
        self.server.shutdown()
        self.server.server_close()

    def post(self, path, body, signature):
        self.connection.request("POST", path, body, {"Naru-Signature": signature})
        response = self.connection.getresponse()
        return response.status, response.read()

    def test_a_signed_call_is_answered_and_others_are_refused(self):
        body = json.dumps({"client": "c", "method": "time", "transport": "websocket"}).encode()
        status, answer = self.post("/rpc", body, sign(body))
        self.assertEqual(status, 200)
        self.assertIn("time", json.loads(answer)["result"]["data"])
        self.assertEqual(self.post("/rpc", body, sign(body, "other"))[0], 401)
        self.assertEqual(self.post("/other", body, sign(body))[0], 404)


class Client:
    """A Centrifuge client in JSON: as much WebSocket as it takes."""

    def __init__(self, address, headers):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.reader = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            (
                f"GET /connection/websocket HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
                f"{headers}\r\n"
            ).encode()
        )
        assert b" 101 " in self.reader.readline()
        while self.reader.readline() != b"\r\n":
            pass
        self.last = 0

    def ask(self, **command):
        self.last += 1
        text = json.dumps({"id": self.last, **command}).encode()
        # Masked with zeros, which changes nothing.
        self.socket.sendall(b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text)
        while True:
            answer = self.next()
            if answer.get("id") == self.last or "closed" in answer:
                return answer

    def next(self):
        first, length = self.reader.read(2)
        if length == 126:
            length = int.from_bytes(self.reader.read(2), "big")
        payload = self.reader.read(length)
        return {"closed": int.from_bytes(payload[:2], "big")} if first & 15 == 8 else json.loads(payload)

    def close(self):
        self.reader.close()
        self.socket.close()


@unittest.skipUnless("NARU_BIN" in os.environ, "NARU_BIN names no server")
class NaruTest(unittest.TestCase):
    def setUp(self):
        self.application = start()
        self.folder = tempfile.TemporaryDirectory()
        config = os.path.join(self.folder.name, "naru.toml")
        url = f"http://127.0.0.1:{self.application.server_port}"
        with open(config, "w", encoding="utf-8") as file:
            sections = ["[http]", 'api_keys = ["key"]', "[bridge]", "[stomp]"]
            lines = [f'{s}\nlisten = "127.0.0.1:0"' if s[0] == "[" else s for s in sections]
            file.write("\n".join(lines) + "\n" + app.settings(url, SECRET))
        data = os.path.join(self.folder.name, "data")
        command = [os.environ["NARU_BIN"], "serve", "--config", config, "--data-dir", data]
        self.naru = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.assertTrue(self.naru.stdout.readline(), "it says when it is up")
        with open(os.path.join(data, "run.json"), encoding="utf-8") as file:
            self.address = json.load(file)["http"]

    def tearDown(self):
        self.naru.kill()
        self.naru.communicate()
        self.application.shutdown()
        self.application.server_close()
        self.folder.cleanup()

    def call(self, method, params):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        body = json.dumps({"method": method, "params": params})
        headers = {"X-API-Key": "key", "Content-Type": "application/json"}
        connection.request("POST", "/api/rpc", body, headers)
        answer = json.load(connection.getresponse())
        connection.close()
        return answer

    def test_a_chat_goes_through_it(self):
        ann = Client(self.address, "Cookie: session=ann\r\n")
        self.assertIn("connect", ann.ask(connect={}))
        entered = ann.ask(subscribe={"channel": "hall:staff"})
        self.assertEqual(entered["subscribe"]["data"], {"welcome": "hall:staff"})
        shouted = ann.ask(publish={"channel": "hall:staff", "data": {"text": "HELLO"}})
        self.assertEqual(shouted["error"]["code"], 422)
        self.assertIn("publish", ann.ask(publish={"channel": "hall:staff", "data": {"text": " hi"}}))
        self.assertEqual(ann.ask(rpc={"method": "who"})["rpc"]["data"], {"users": ["ann"]})
        self.assertEqual(self.call("who", {})["result"]["data"], {"users": ["ann"]})
        self.assertEqual(self.call("ban", {"user": "eve"})["result"]["data"], {})
        eve = Client(self.address, "Cookie: session=eve\r\n")
        self.assertEqual(eve.ask(connect={}), {"closed": 4500})
        ann.close()
        eve.close()


if __name__ == "__main__":
    unittest.main()
