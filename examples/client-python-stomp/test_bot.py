"""The bot as its README starts it, with a real server and a simulated phone. NARU_BIN names the binary."""

import os
import subprocess
import sys
import threading
import unittest

import bot
from naru import DEADLINE, Naru

CONFIG = """
[bridge]
listen = "127.0.0.1:0"
approve_devices = "auto"
approve_rooms = "auto"
[bridge.keys.default]
secret = "test-secret"
salt = "test-salt"
[http]
listen = "127.0.0.1:0"
[stomp]
listen = "{stomp}"
[[users]]
name = "echo"
password = "correct horse"
role = "operator"
[channels.namespaces.bot]
history_size = 1000
durability = "os"
force_recovery = true
"""


class Server(Naru):
    def __init__(self):
        super().__init__(CONFIG.format(stomp="127.0.0.1:0"))

    def restart(self):
        """kill -9, and the same port for STOMP in the next life."""
        self.kill()
        (self.folder / "naru.toml").write_text(CONFIG.format(stomp=self.run["stomp"]))
        self.start()

    def say(self, text, reply):
        """A phone says something and gets this reply, or the test fails."""
        command = [os.environ["NARU_BIN"], "phone", "--server", self.run["bridge"]]
        command += ["--secret", "test-secret", "--salt", "test-salt"]
        command += ["--say", text, "--expect", reply, "--timeout", f"{DEADLINE}s"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE)
        if done.returncode != 0:
            raise AssertionError(f"no {reply!r}: {done.stdout} {done.stderr}")


class Client:
    """The bot, as its README starts it."""

    def __init__(self, server):
        command = [sys.executable, "bot.py", "--server", server.run["stomp"]]
        environment = {**os.environ, "NARU_PASSCODE": "correct horse"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)

    def says(self, words):
        """Waits for its next line, which must have these words."""
        watchdog = threading.Timer(DEADLINE, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline().decode()
        watchdog.cancel()
        if words not in line:
            raise AssertionError(f"{words!r} did not come, but {line!r}")

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Example(unittest.TestCase):
    def test_it_answers_what_it_knows_and_nothing_else(self):
        self.assertEqual(bot.answer({"text": "!echo hi there"}), [{"text": "echo: hi there"}])
        self.assertEqual(bot.answer({"text": "only talk"}), [])

    def test_it_answers_a_phone_also_after_the_death_of_the_server_and_its_own(self):
        server = Server()
        self.addCleanup(server.stop)
        client = Client(server)
        self.addCleanup(lambda: client.stop())
        client.says("watching bot:demo-bot")
        server.say("!echo 안녕", "echo: 안녕")

        server.restart()
        # Without waiting for the bot to be back: what it misses comes later.
        server.say("!echo again", "echo: again")
        client.says("watching bot:demo-bot")

        client.stop()
        client = Client(server)
        server.say("!echo once more", "echo: once more")


if __name__ == "__main__":
    unittest.main()
