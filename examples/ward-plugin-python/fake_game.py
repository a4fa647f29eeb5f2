"""The game of the example, as far as its console goes: for the tests, and for a first look.

    python3 fake_game.py 9000 secret
"""

import socketserver
import sys


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        if self.next() != self.server.password:
            self.say("wrong password")
            return
        self.say("welcome")
        while (command := self.next()) is not None:
            self.server.heard.append(command)
            self.say(*self.answer(command))

    def next(self):
        line = self.rfile.readline(1000)
        return line.decode().rstrip("\n") if line.endswith(b"\n") else None

    def say(self, *lines):
        self.wfile.write("".join(line + "\n" for line in (*lines, ".")).encode())

    def answer(self, command):
        if command == "status":
            return ["online=2", "max=16", "ticks=20.0", "uptime=61.5", "version=1.4"]
        if command == "players":
            return ["7 Ann of Old", "9 Bob"]
        if command == "save":
            return ["saved"]
        return ["done: " + command]


class FakeGame(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port, password):
        super().__init__(("127.0.0.1", port), Handler)
        self.password = password
        self.heard = []


if __name__ == "__main__":
    game = FakeGame(int(sys.argv[1]), sys.argv[2])
    print(game.server_address[1], flush=True)
    game.serve_forever()
