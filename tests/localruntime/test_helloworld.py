"""The sample that answers: what its users see of a mesh must not be its own doing."""

from __future__ import annotations

import http.client
import socket
import threading

from isthmus.localruntime.samples.helloworld import Hello, Server

pieces: list[bytes] = []


class Seen(socket.socket):
    def send(self, data, flags=0):
        pieces.append(bytes(data))
        return super().send(data, flags)

    def sendall(self, data, flags=0):
        pieces.append(bytes(data))
        return super().sendall(data, flags)


class SeenServer(Server):
    def get_request(self):
        connection, address = super().get_request()
        return Seen(fileno=connection.detach()), address


def test_an_answer_leaves_in_one_piece():
    with SeenServer(("127.0.0.1", 0), Hello) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = http.client.HTTPConnection(*server.server_address, timeout=60)
        client.request("GET", "/hello")
        answered = client.getresponse().read()
        client.close()
        server.shutdown()

    [piece] = pieces
    assert piece.startswith(b"HTTP/1.1 200 OK\r\n")
    assert piece.endswith(b"\r\n\r\n" + answered)
