"""stomp.py against a real server, over TCP: what it sends arrives, and what it misses comes later."""

import threading
import unittest

import stomp

from naru import DEADLINE, Naru

PASSCODE = "correct horse"

CONFIG = f"""
[bridge]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
[stomp]
listen = "127.0.0.1:0"
heartbeat = "1s"
[[users]]
name = "ann"
password = "{PASSCODE}"
role = "viewer"
[[users]]
name = "bob"
password = "{PASSCODE}"
role = "viewer"
[channels.default]
allow_subscribe_for_client = true
allow_publish_for_client = true
[channels.namespaces.queue]
allow_subscribe_for_client = true
allow_publish_for_client = true
[channels.namespaces.kept]
history_size = 1000
durability = "disk"
force_recovery = true
allow_subscribe_for_client = true
allow_publish_for_client = true
"""


class Server(Naru):
    @property
    def address(self):
        host, port = self.run["stomp"].split(":")
        return (host, int(port))


class Heard(stomp.ConnectionListener):
    """What the server said, and a way to wait for it."""

    def __init__(self):
        self.changed = threading.Condition()
        self.messages, self.receipts, self.errors = [], {}, []
        self.beats = 0
        self.is_over = False

    def note(self, change):
        with self.changed:
            change()
            self.changed.notify_all()

    def on_message(self, frame):
        self.note(lambda: self.messages.append(frame))

    def on_receipt(self, frame):
        self.note(lambda: self.receipts.__setitem__(frame.headers["receipt-id"], frame.headers))

    def on_error(self, frame):
        self.note(lambda: self.errors.append(frame))

    def on_heartbeat(self):
        self.note(lambda: setattr(self, "beats", self.beats + 1))

    def on_disconnected(self):
        self.note(lambda: setattr(self, "is_over", True))

    def wait(self, ready):
        with self.changed:
            if not self.changed.wait_for(lambda: ready(), DEADLINE):
                raise AssertionError(f"in vain: {self.receipts} {self.messages} {self.errors}")

    def receipt(self, name):
        self.wait(lambda: name in self.receipts)
        return self.receipts[name]

    def bodies(self, count):
        self.wait(lambda: len(self.messages) >= count)
        return [frame.body for frame in self.messages]


class Clients(unittest.TestCase):
    def setUp(self):
        self.server = Server(CONFIG)
        self.addCleanup(self.server.stop)

    def connect(self, kind=stomp.Connection12, user="ann", passcode=PASSCODE):
        options = {} if kind is stomp.Connection10 else {"heartbeats": (1000, 1000)}
        connection = kind([self.server.address], reconnect_attempts_max=1, **options)
        heard = Heard()
        connection.set_listener("", heard)
        connection.connect(user, passcode, wait=passcode == PASSCODE)
        return connection, heard

    def hang_up(self, connection, heard):
        connection.disconnect(receipt="bye")
        heard.receipt("bye")

    def test_all_versions_send_and_hear_with_receipts_and_headers(self):
        kinds = [stomp.Connection10, stomp.Connection11, stomp.Connection12]
        everybody = [self.connect(kind) for kind in kinds]
        for connection, heard in everybody:
            connection.subscribe("/topic/all", id="s", headers={"receipt": "s"})
            heard.receipt("s")
        for number, (connection, heard) in enumerate(everybody):
            connection.send("/topic/all", f"body {number}", content_type="text/plain", colour="a:b", receipt="m")
            heard.receipt("m")
        for connection, heard in everybody:
            self.assertEqual(heard.bodies(3), ["body 0", "body 1", "body 2"])
            for frame in heard.messages:
                self.assertEqual(frame.headers["colour"], "a:b")
                self.assertEqual(frame.headers["destination"], "/topic/all")
                self.assertEqual(frame.headers["content-type"], "text/plain")
            self.hang_up(connection, heard)

    def test_a_transaction_counts_when_it_is_committed(self):
        connection, heard = self.connect()
        connection.subscribe("/topic/tx", id="s", headers={"receipt": "s"})
        heard.receipt("s")
        kept, dropped = connection.begin(), connection.begin()
        connection.send("/topic/tx", "never", transaction=dropped)
        connection.send("/topic/tx", "one", transaction=kept)
        connection.send("/topic/tx", "two", transaction=kept)
        connection.abort(dropped)
        connection.send("/topic/tx", "before", receipt="before")
        heard.receipt("before")
        connection.commit(kept, receipt="all")
        heard.receipt("all")
        self.assertEqual(heard.bodies(3), ["before", "one", "two"])
        self.hang_up(connection, heard)

    def test_nothing_is_missed_across_the_death_of_the_server(self):
        connection, heard = self.connect()
        connection.subscribe("/topic/kept:a", id="s", ack="client-individual")
        connection.send("/topic/kept:a", "first", receipt="m")
        heard.receipt("m")
        heard.bodies(1)
        position = heard.messages[0].headers["position"]
        connection.ack(heard.messages[0].headers["ack"])
        self.hang_up(connection, heard)
        connection, heard = self.connect(user="bob")
        for number in range(50):
            connection.send("/topic/kept:a", f"missed {number}", receipt=f"m{number}")
        heard.receipt("m49")
        self.server.kill()
        self.server.start()
        connection, heard = self.connect()
        headers = {"last-position": position, "receipt": "s"}
        connection.subscribe("/topic/kept:a", id="s", headers=headers)
        self.assertEqual(heard.receipt("s")["recovered"], "true")
        self.assertEqual(heard.bodies(50), [f"missed {number}" for number in range(50)])
        self.hang_up(connection, heard)

    def test_a_user_is_reached_and_an_answer_finds_its_way_back(self):
        ann, ann_heard = self.connect()
        bob, bob_heard = self.connect(user="bob")
        bob.subscribe("/topic/questions", id="q", headers={"receipt": "q"})
        bob_heard.receipt("q")
        ann.subscribe("/temp-queue/answers", id="a", headers={"receipt": "a"})
        ann_heard.receipt("a")
        ann.send("/topic/questions", "why?", **{"reply-to": "/temp-queue/answers"})
        self.assertEqual(bob_heard.bodies(1), ["why?"])
        bob.send(bob_heard.messages[0].headers["reply-to"], "because")
        self.assertEqual(ann_heard.bodies(1), ["because"])
        self.hang_up(ann, ann_heard)
        self.hang_up(bob, bob_heard)

    def test_the_work_of_a_consumer_that_dies_is_done_by_another(self):
        lazy, lazy_heard = self.connect()
        lazy.subscribe("/queue/jobs", id="w", ack="client-individual", headers={"receipt": "w"})
        lazy_heard.receipt("w")
        for number in range(10):
            lazy.send("/queue/jobs", str(number), receipt=f"m{number}")
        lazy_heard.receipt("m9")
        lazy_heard.bodies(10)
        for frame in lazy_heard.messages[:3]:
            lazy.ack(frame.headers["ack"])
        lazy.nack(lazy_heard.messages[3].headers["ack"], receipt="nacked")
        lazy_heard.receipt("nacked")
        lazy.transport.disconnect_socket()
        able, able_heard = self.connect(user="bob")
        able.subscribe("/queue/jobs", id="w", ack="client-individual")
        self.assertEqual(able_heard.bodies(7), [str(number) for number in range(3, 10)])
        for frame in able_heard.messages:
            self.assertEqual(frame.headers["redelivered"], "true")
            able.ack(frame.headers["ack"])
        self.hang_up(able, able_heard)

    def test_a_refusal_says_why(self):
        connection, heard = self.connect(passcode="wrong")
        heard.wait(lambda: heard.errors)
        self.assertEqual(heard.errors[0].headers["code"], "bad_credentials")
        connection, heard = self.connect()
        connection.send("/topic/nowhere:x", "x", receipt="r")
        heard.wait(lambda: heard.errors)
        self.assertEqual(heard.errors[0].headers["code"], "unknown_destination")
        self.assertEqual(heard.errors[0].headers["receipt-id"], "r")
        heard.wait(lambda: heard.is_over)

    def test_a_connection_lives_on_heart_beats(self):
        connection, heard = self.connect()
        # One a second: longer than the server waits for a client that is silent.
        heard.wait(lambda: heard.beats >= 5)
        connection.send("/topic/late", "x", receipt="m")
        heard.receipt("m")
        self.hang_up(connection, heard)


if __name__ == "__main__":
    unittest.main()
