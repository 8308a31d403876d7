"""MeshClient: asks a running mesh over its control socket. On the standard library alone, so that commands start fast."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

from isthmus.localruntime.state import StateFolder


class MeshUnavailable(Exception):
    """The running mesh does not answer."""


class MeshRefused(Exception):
    """The running mesh says that it cannot: its own words."""


class MeshClient:
    """One mesh's control socket."""

    def __init__(self, state: StateFolder) -> None:
        self.state = state

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self._request("GET", "/status")))

    def memory(self) -> list[dict[str, Any]]:
        return list(json.loads(self._request("GET", "/memory")))

    def pod(self, cluster: str, namespace: str, name: str) -> dict[str, Any]:
        """Raises MeshRefused if there is none, naming those that there are."""
        return dict(json.loads(self._request("GET", f"/pods/{cluster}/{namespace}/{name}")))

    def switch(self, machine: str, position: str) -> None:
        """`on`, `off`, or `cut`: without a word to anybody. Raises MeshRefused for one that there is not."""
        self._request("POST", f"/machines/{machine}/{position}")

    def envoy(self, cluster: str, namespace: str, name: str, page: str) -> bytes:
        """A page of a Pod's Envoy's admin interface."""
        return self._request("GET", f"/envoy/{cluster}/{namespace}/{name}/{page}")

    def control_plane(self, cluster: str, page: str, pod: str = "istiod") -> Any:
        """A debug page of a cluster's control plane, decoded. `pod` is its name, or the beginning of it, where several run."""
        return json.loads(self._request("GET", f"/control-plane/{cluster}/{pod}/{page}"))

    def _request(self, method: str, path: str) -> bytes:
        try:
            code, body = answer_at(self.state.control_socket, method, path)
        except (OSError, http.client.HTTPException) as error:
            raise MeshUnavailable(
                f"the mesh {self.state.name} does not answer ({error}): see {self.state.runtime_log}, or end it with `isthmus down`"
            ) from None
        if code >= 400:
            raise MeshRefused(body.decode(errors="replace").strip())
        return body


def answer_at(socket_path: Path, method: str, path: str) -> tuple[int, bytes]:
    """The code and the body of whoever listens there. Raises OSError and HTTPException."""
    connection = _UnixConnection(str(socket_path))
    try:
        connection.request(method, quote(path, safe="/?=&%|"))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("mesh", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
