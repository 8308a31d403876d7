"""Two real API servers as processes of their own, and plain requests to them."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.apiserver.settings import ApiServerSettings

_PROGRAM = "import sys; from isthmus.apiserver.process import main; sys.exit(main(sys.argv[1]))"
_SECONDS = 60


class ApiServer:
    """One process over one directory."""

    def __init__(self, cluster: str, directory: Path) -> None:
        self._directory = directory / "state"
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            settings = ApiServerSettings(
                cluster_id=cluster,
                directory=str(self._directory),
                inherited_fds=[listener.fileno()],
                api_address=self.url.removeprefix("https://"),
            )
            file = directory / "settings.json"
            file.write_bytes(msgspec.json.encode(settings))
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(file)],
                pass_fds=[listener.fileno()],
                stderr=subprocess.PIPE,
                text=True,
            )
        assert self._process.stderr is not None
        said = ""
        while "serving" not in said:
            line = self._process.stderr.readline()
            assert line, said
            said += line

    @property
    def ca_pem(self) -> str:
        return (self._directory / "ca.crt").read_text()

    @property
    def admin_token(self) -> str:
        return (self._directory / "admin-token").read_text().strip()

    def request(self, method: str, path: str, body: Any = None, *, token: str = "") -> tuple[int, dict[str, Any]]:
        """As the administrator, unless there is a token."""
        headers = {"Authorization": f"Bearer {token or self.admin_token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, headers, method=method)
        context = ssl.create_default_context(cadata=self.ca_pem)
        try:
            with urllib.request.urlopen(asked, timeout=_SECONDS, context=context) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.load(refusal)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(_SECONDS)
        assert self._process.stderr is not None
        self._process.stderr.close()


@pytest.fixture(scope="module")
def _servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ApiServer]]:
    found: dict[str, ApiServer] = {}
    try:
        for name in ("east", "west"):
            found[name] = ApiServer(name, tmp_path_factory.mktemp(name))
        yield found
    finally:
        for server in found.values():
            server.close()


@pytest.fixture
def api_servers(_servers: dict[str, ApiServer]) -> Iterator[dict[str, ApiServer]]:
    """East and west, each with an empty istio-system."""
    for server in _servers.values():
        code, answer = server.request("POST", "/api/v1/namespaces", {"metadata": {"name": "istio-system"}})
        assert code in (201, 409), answer
    yield _servers
    for server in _servers.values():
        for kind in ("secrets", "serviceaccounts"):
            path = f"/api/v1/namespaces/istio-system/{kind}"
            for item in server.request("GET", path)[1]["items"]:
                server.request("DELETE", f"{path}/{item['metadata']['name']}")
        for kind in ("clusterroles", "clusterrolebindings"):
            path = f"/apis/rbac.authorization.k8s.io/v1/{kind}/istio-reader-clusterrole-istio-system"
            server.request("DELETE", path)


@pytest.fixture
def request_to(api_servers: dict[str, ApiServer]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """A request to one of them: (cluster, method, path, body)."""

    def send(cluster: str, *arguments: Any, **named: Any) -> tuple[int, dict[str, Any]]:
        return api_servers[cluster].request(*arguments, **named)

    return send
