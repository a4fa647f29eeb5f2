#!/usr/bin/env python3
"""A ward plugin: teaches Naru a game whose console is reached by TCP.

Naru writes one JSON object a line to our standard input, and wants one line back on standard output. Nothing
else may be printed there. When standard input ends, so do we.

The game of this example asks for a password, then takes one command a line and ends each answer with a line
that is a single dot. To make it yours, change `Console` and the methods of `Game`.
"""

import json
import socket
import sys

# Below the deadline of the profile, so that Naru is told what is wrong instead of having to end us.
TIMEOUT_S = 3
ANSWER_BYTES_MAX = 1 << 20


class Refused(Exception):
    """The game is there and says no. Naru does not ask again."""


class Console:
    """A connection to the game's console, made anew whenever it broke."""

    def __init__(self, port, password):
        self.port = port
        self.password = password
        self.lines = None

    def ask(self, command):
        """Sends one command; returns the lines of its answer."""
        try:
            if self.lines is None:
                self.connect()
            return self.exchange(command)
        except OSError as error:
            self.close()
            raise Refused(f"the console does not answer: {error}") from error

    def connect(self):
        stream = socket.create_connection(("127.0.0.1", self.port), TIMEOUT_S)
        self.lines = stream.makefile("rwb")
        stream.close()  # the file keeps it open
        if self.exchange(self.password) != ["welcome"]:
            self.close()
            raise Refused("the console does not take the password")

    def exchange(self, line):
        # A line break in a message would begin a second command.
        line = " ".join(line.split())
        self.lines.write(line.encode() + b"\n")
        self.lines.flush()
        answer = []
        size = 0
        while True:
            got = self.lines.readline(ANSWER_BYTES_MAX)
            size += len(got)
            if not got.endswith(b"\n") or size > ANSWER_BYTES_MAX:
                raise ConnectionError("the answer is cut off")
            text = got.decode(errors="replace").rstrip("\r\n")
            if text == ".":
                return answer
            answer.append(text)

    def close(self):
        if self.lines is not None:
            lines, self.lines = self.lines, None
            try:
                lines.close()
            except OSError:
                pass


class Game:
    """What Naru may ask. Each method returns what goes into the answer."""

    def __init__(self, hello):
        self.console = Console(hello["ports"]["console"], hello["secrets"].get("console", ""))

    def status(self, _request):
        fields = dict(line.split("=", 1) for line in self.console.ask("status") if "=" in line)
        return {
            "online": int(fields["online"]),
            "max": int(fields["max"]),
            "tick_rate": float(fields["ticks"]),
            "uptime_s": float(fields["uptime"]),
            "version": fields["version"],
        }

    def players(self, _request):
        lines = (line.split(" ", 1) for line in self.console.ask("players"))
        return {"players": [{"id": line[0], "name": line[-1]} for line in lines]}

    def announce(self, request):
        self.console.ask("say " + request["message"])
        return {}

    def save(self, _request):
        if self.console.ask("save") != ["saved"]:
            raise Refused("the game did not save")
        return {}

    def stop(self, request):
        self.console.ask(f"shutdown {request['seconds']}")
        return {}

    def command(self, request):
        return {"text": "\n".join(self.console.ask(request["line"]))}


REQUESTS = ("status", "players", "announce", "save", "stop", "command")


def answer(game, request):
    """The answer to one request; whatever goes wrong is a refusal, and we live on."""
    what = request["do"]
    if what not in REQUESTS:
        return {"ok": False, "error": f"this plugin does not know `{what}`"}
    try:
        return {"ok": True, **getattr(game, what)(request)}
    except Refused as refused:
        return {"ok": False, "error": str(refused)}
    except (KeyError, ValueError) as error:
        return {"ok": False, "error": f"the game said something else than expected: {error!r}"}


def main():
    game = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "hello":
            game = Game(request)
            said = {"ok": True}
        else:
            said = answer(game, request)
        print(json.dumps({"id": request["id"], **said}), flush=True)


if __name__ == "__main__":
    main()
