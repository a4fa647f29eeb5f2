"""The plugin as Naru runs it: a process, lines in, lines out."""

import json
import os
import subprocess
import sys
import threading
import unittest

from fake_game import FakeGame

HERE = os.path.dirname(os.path.abspath(__file__))


class PluginTest(unittest.TestCase):
    def setUp(self):
        self.game = FakeGame(0, "hush")
        self.addCleanup(self.game.server_close)
        thread = threading.Thread(target=self.game.serve_forever, args=(0.05,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.game.shutdown)
        self.plugin = subprocess.Popen(
            [sys.executable, "-B", os.path.join(HERE, "plugin.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.end)
        self.id = 0

    def end(self):
        self.plugin.stdin.close()
        self.plugin.stdout.close()
        # It ends by itself when its input does.
        self.assertEqual(self.plugin.wait(30), 0)

    def ask(self, what, **more):
        self.id += 1
        print(json.dumps({"id": self.id, "do": what, **more}), file=self.plugin.stdin, flush=True)
        answer = json.loads(self.plugin.stdout.readline())
        self.assertEqual(answer.pop("id"), self.id)
        return answer

    def hello(self, password="hush"):
        port = self.game.server_address[1]
        about = {"ports": {"console": port}, "secrets": {"console": password}}
        self.assertEqual(self.ask("hello", version=1, ward="w", dir="/srv/w", **about), {"ok": True})

    def test_it_answers_all_that_is_asked(self):
        self.hello()
        status = self.ask("status")
        self.assertEqual((status["online"], status["max"], status["tick_rate"]), (2, 16, 20.0))
        players = self.ask("players")["players"]
        self.assertEqual(players[0], {"id": "7", "name": "Ann of Old"})
        self.assertEqual(self.ask("save"), {"ok": True})
        self.assertEqual(self.ask("command", line="help"), {"ok": True, "text": "done: help"})
        self.assertEqual(self.ask("stop", seconds=10, message="bye"), {"ok": True})
        self.assertEqual(self.game.heard[-1], "shutdown 10")

    def test_a_message_cannot_bring_a_second_command(self):
        self.hello()
        self.assertEqual(self.ask("announce", message="hi\nshutdown 0"), {"ok": True})
        self.assertEqual(self.game.heard, ["say hi shutdown 0"])

    def test_what_cannot_be_done_is_refused_and_it_lives_on(self):
        self.hello("wrong")
        self.assertIn("password", self.ask("status")["error"])
        self.assertIn("does not know", self.ask("dance")["error"])
        self.assertFalse(self.ask("players")["ok"])


if __name__ == "__main__":
    unittest.main()
