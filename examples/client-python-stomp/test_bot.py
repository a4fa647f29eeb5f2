"""The bot as its README starts it, with a real server and a simulated phone. NARU_BIN names the binary."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest

import bot

NARU = os.environ["NARU_BIN"]
DEADLINE = 60
KEYS = ["--secret", "test-secret", "--salt", "test-salt"]

CONFIG = """
[bridge]
listen = "{bridge}"
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


def started(command, first_words, **options):
    """A process that has said on its first line that it is up."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, **options)
    await_line(process, first_words)
    return process


def await_line(process, words):
    watchdog = threading.Timer(DEADLINE, process.kill)
    watchdog.start()
    line = process.stdout.readline().decode()
    watchdog.cancel()
    if words not in line:
        raise AssertionError(f"{words!r} did not come, but {line!r}")


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


class Server:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.addresses = {"bridge": "127.0.0.1:0", "stomp": "127.0.0.1:0"}
        self.start()

    def start(self):
        config, data = self.folder / "naru.toml", self.folder / "data"
        config.write_text(CONFIG.format(**self.addresses))
        command = [NARU, "serve", "--config", str(config), "--data-dir", str(data)]
        self.process = started(command, "is up", stderr=subprocess.DEVNULL)
        run = json.loads((data / "run.json").read_text())
        # The same ports in the next life, so that everybody finds it.
        self.addresses = {"bridge": run["bridge"], "stomp": run["stomp"]}

    def say(self, text, reply):
        """A phone says something and gets this reply, or the test fails."""
        command = [NARU, "phone", "--server", self.addresses["bridge"], *KEYS]
        command += ["--say", text, "--expect", reply, "--timeout", f"{DEADLINE}s"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * DEADLINE)
        if done.returncode != 0:
            raise AssertionError(f"no {reply!r}: {done.stdout} {done.stderr}")


class Example(unittest.TestCase):
    def test_it_answers_what_it_knows_and_nothing_else(self):
        self.assertEqual(bot.answer({"text": "!echo hi there"}), [{"text": "echo: hi there"}])
        self.assertEqual(bot.answer({"text": "only talk"}), [])

    def test_it_answers_a_phone_also_after_the_death_of_the_server(self):
        folder = tempfile.TemporaryDirectory(prefix="naru-")
        self.addCleanup(folder.cleanup)
        server = Server(folder.name)
        self.addCleanup(lambda: end(server.process))
        command = [sys.executable, "bot.py", "--server", server.addresses["stomp"]]
        environment = {**os.environ, "NARU_PASSCODE": "correct horse"}
        client = started(command, "watching bot:demo-bot", env=environment)
        self.addCleanup(lambda: end(client))
        server.say("!echo 안녕", "echo: 안녕")
        end(server.process)
        server.start()
        # Without waiting for the bot to be back: what it misses comes later.
        server.say("!echo again", "echo: again")
        await_line(client, "watching bot:demo-bot")


if __name__ == "__main__":
    unittest.main()
