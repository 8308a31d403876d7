"""tcp-echo: answers each line with a prefix, on 9000; on 9001 it greets first, as servers of some protocols do."""

from __future__ import annotations

import os
import socketserver
import threading

PREFIX = f"{os.environ.get('SERVICE_VERSION', 'v1')} {os.environ.get('POD_NAME', 'here')}".encode()


class Echo(socketserver.StreamRequestHandler):
    greets = False

    def handle(self) -> None:
        if self.greets:
            self.wfile.write(b"welcome to " + PREFIX + b"\n")
        for line in self.rfile:
            self.wfile.write(PREFIX + b" " + line)


class Greeting(Echo):
    greets = True


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    greeting = Server(("0.0.0.0", 9001), Greeting)
    threading.Thread(target=greeting.serve_forever, daemon=True).start()
    with Server(("0.0.0.0", 9000), Echo) as server:
        server.serve_forever()
