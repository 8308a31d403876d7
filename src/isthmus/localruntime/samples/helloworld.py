"""helloworld: says its version and its Pod, and shows what the sidecar told it about the caller.

/hello     Hello version: v1, instance: POD
/whoami    JSON: version, Pod, cluster, and the identities in x-forwarded-client-cert
/headers   JSON: the request's headers
/slow?ms=N the same as /hello, after N milliseconds
/health    ok; after /health?is=bad an error, until /health?is=good
"""

from __future__ import annotations

import json
import os
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

VERSION = os.environ.get("SERVICE_VERSION", "v1")
POD = os.environ.get("POD_NAME", "here")
CLUSTER = os.environ.get("CLUSTER_ID", "")


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    """An answer leaves in one piece. With a head that has gone ahead, nobody else can be asked when something on the way is killed."""
    is_well = True

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/slow":
            milliseconds = parse_qs(address.query).get("ms", ["100"])[0]
            threading.Event().wait(int(milliseconds) / 1000)
        if address.path in ("/hello", "/slow"):
            self._say(f"Hello version: {VERSION}, instance: {POD}\n", "text/plain")
        elif address.path == "/health":
            Hello.is_well = parse_qs(address.query).get("is", ["good" if Hello.is_well else "bad"])[0] == "good"
            if Hello.is_well:
                self._say("ok\n", "text/plain")
            else:
                self.send_error(503, "not well")
        elif address.path == "/whoami":
            self._say(json.dumps(self._whoami()) + "\n", "application/json")
        elif address.path == "/headers":
            self._say(json.dumps(dict(self.headers.items())) + "\n", "application/json")
        else:
            self.send_error(404)

    def _whoami(self) -> dict[str, str]:
        """The last element is the nearest caller's; the sidecar wrote it, whatever the caller sent."""
        element = self.headers.get("x-forwarded-client-cert", "").rpartition(",")[2]
        fields = dict(part.partition("=")[::2] for part in element.split(";") if part)
        return {
            "version": VERSION,
            "pod": POD,
            "cluster": CLUSTER,
            "caller": fields.get("URI", ""),
            "self": fields.get("By", ""),
        }

    def _say(self, text: str, content_type: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Silent: the sidecar logs."""


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    with Server(("0.0.0.0", int(os.environ.get("PORT", "5000"))), Hello) as server:
        server.serve_forever()
