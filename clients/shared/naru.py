"""A real `naru serve` in a temporary folder. NARU_BIN names the binary. It stands beside the checks when they run."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading

# What takes longer will not come.
DEADLINE = 60


class Naru:
    def __init__(self, config):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="naru-"))
        (self.folder / "naru.toml").write_text(config)
        self.start()

    def start(self):
        data = self.folder / "data"
        command = [os.environ["NARU_BIN"], "serve", "--config", str(self.folder / "naru.toml")]
        self.process = subprocess.Popen(
            command + ["--data-dir", str(data)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        # It says so when everything listens; where, it has written down before.
        watchdog = threading.Timer(DEADLINE, self.process.kill)
        watchdog.start()
        is_up = b"is up" in self.process.stdout.readline()
        watchdog.cancel()
        if not is_up:
            raise RuntimeError("the server did not come up")
        self.run = json.loads((data / "run.json").read_text())

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
