"""The sample that answers: what its users see of a mesh must not be its own doing."""

from __future__ import annotations

import socket
import threading

from isthmus.localruntime.samples.helloworld import Hello, Server


def test_an_answer_leaves_in_one_piece():
    with Server(("127.0.0.1", 0), Hello) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with socket.create_connection(server.server_address, timeout=60) as client:
            client.sendall(b"GET /hello HTTP/1.1\r\nHost: helloworld\r\n\r\n")
            came = client.recv(65536)
        server.shutdown()

    assert came.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\nHello version: v1" in came
