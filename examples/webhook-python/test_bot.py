"""Run with: python3 -m unittest"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import struct
import subprocess
import sys
import threading
import time
import unittest
import zlib

import bot

SECRET = "testsecret"
HERE = os.path.dirname(os.path.abspath(__file__))


def message(text):
    return {
        "event": "message",
        "id": 775946240000001,
        "bot": "demo-bot",
        "device": "0123456789abcdef",
        "room": {"name": "점심방", "channel_id": "18400000000000001"},
        "sender": {"name": "지우", "user_hash": None},
        "text": text,
        "is_group_chat": True,
        "is_mention": False,
        "log_id": "3600000000000000001",
        "received_at": "2026-01-01T00:00:00.123Z",
        "attempt": 1,
    }


def sign(body, secret=SECRET, at=None):
    stamp = str(int(time.time() if at is None else at))
    mac = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={mac}"


class SignatureTest(unittest.TestCase):
    BODY = b'{"event":"message"}'
    # The vector of docs/guide/webhooks.md.
    HEADER = "t=1767225600,v1=b01ee30da8ed3f84d7f8acb6f2d35250686454e2b69550f757f14f6b2ca8397a"

    def test_the_vector_of_the_guide_is_valid(self):
        self.assertTrue(bot.signature_is_valid(self.HEADER, self.BODY, SECRET, 1767225600))
        self.assertEqual(sign(self.BODY, at=1767225600), self.HEADER)

    def test_one_of_two_signatures_is_enough(self):
        other = sign(self.BODY, "new", 1767225600).split(",")[1]
        both = self.HEADER.replace(",", f",{other},", 1)
        for secret in (SECRET, "new"):
            self.assertTrue(bot.signature_is_valid(both, self.BODY, secret, 1767225600))

    def test_anything_else_is_not(self):
        for header, body, now in [
            (self.HEADER, self.BODY + b" ", 1767225600),
            (self.HEADER, self.BODY, 1767225600 + 301),
            (self.HEADER, self.BODY, 1767225600 - 301),
            (self.HEADER.replace("=1767225600", "=1767225601"), self.BODY, 1767225600),
            ("t=1767225600", self.BODY, 1767225600),
            ("t=x,v1=00", self.BODY, 1767225600),
            ("t=1767225600,v1=é", self.BODY, 1767225600),
            ("", self.BODY, 1767225600),
        ]:
            self.assertFalse(bot.signature_is_valid(header, body, SECRET, now), header)


class ServerTest(unittest.TestCase):
    def setUp(self):
        self.server = bot.Server("127.0.0.1", 0, SECRET)
        # Looks often whether it should end, so that the tests are quick.
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=5)

    def tearDown(self):
        self.connection.close()
        self.server.shutdown()
        self.server.server_close()

    def call(self, body, delivery="1", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {"Naru-Signature": sign(body), "Naru-Delivery": delivery, **headers}
        self.connection.request("POST", "/", body, headers)
        response = self.connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else None

    def test_echo_answers_with_the_text(self):
        self.assertEqual(self.call(message("!echo 안녕 {}")), (200, {"replies": [{"text": "안녕 {}"}]}))

    def test_other_talk_is_met_with_silence(self):
        self.assertEqual(self.call(message("안녕")), (200, {"replies": []}))

    def test_a_repeated_delivery_gets_the_same_answer(self):
        first = self.call(message("!dice 9999"), "7")
        for _ in range(5):
            self.assertEqual(self.call(message("!dice 9999"), "7"), first)

    def test_a_picture_is_a_png(self):
        _, document = self.call(message("!picture 나루"))
        data = base64.b64decode(document["replies"][0]["images"][0]["base64"])
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(struct.unpack(">II", data[16:24]), (64, 64))
        length = struct.unpack(">I", data[33:37])[0]
        self.assertEqual(len(zlib.decompress(data[41 : 41 + length])), 64 * (1 + 64 * 3))

    def test_unsigned_and_stale_calls_are_refused(self):
        body = json.dumps(message("!echo x")).encode()
        for header in ("", sign(body, "wrong"), sign(body, at=time.time() - 400)):
            status, _ = self.call(body, **{"Naru-Signature": header})
            self.assertEqual(status, 401)

    def test_signed_nonsense_is_a_bad_request(self):
        for body in (b"", b"{", b"[]", b'{"event":"message"}', b'{"event":"message","text":1}'):
            self.assertEqual(self.call(body, delivery=str(body))[0], 400, body)

    def test_unknown_events_are_passed_over(self):
        self.assertEqual(self.call({"event": "later"}), (204, None))

    def test_a_body_that_is_too_long_is_not_read(self):
        self.connection.putrequest("POST", "/")
        self.connection.putheader("Content-Length", str(2 * 1024 * 1024))
        self.connection.endheaders()
        self.assertEqual(self.connection.getresponse().status, 413)


class CommandLineTest(unittest.TestCase):
    def test_port_0_prints_the_port_that_was_chosen(self):
        command = [sys.executable, os.path.join(HERE, "bot.py"), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                line = process.stdout.readline()
                self.assertRegex(line, r"^listening on http://127\.0\.0\.1:[1-9][0-9]*/$")
            finally:
                process.terminate()

    def test_the_self_test_passes(self):
        command = [sys.executable, os.path.join(HERE, "bot.py"), "--self-test"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        self.assertEqual((done.returncode, done.stdout), (0, "self-test passed\n"), done.stderr)


if __name__ == "__main__":
    unittest.main()
