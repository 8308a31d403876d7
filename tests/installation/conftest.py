"""A cluster of processes in a network namespace of its own, where every port is free: an API server, and what a test adds to it.

The API server is the embedded one, unless ISTHMUS_API_SERVER names another command that takes `--settings FILE` and says "serving": that is how
`make conformance-real` has everything here happen on a real one.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.apiserver.settings import ApiServerSettings
from isthmus.kubernetes.kubeconfig import ContextEntry, render

_SECONDS = 60.0
_COMMAND_SECONDS = 300.0
"""A real API server takes a second of CPU for each definition, whatever else the machine does."""
_START_SECONDS = 360.0
_EMBEDDED = [sys.executable, "-m", "isthmus.cli.app", "apiserver"]
_API_SERVER = shlex.split(os.environ.get("ISTHMUS_API_SERVER", "")) or _EMBEDDED
_READY = """
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://127.0.0.1:15021/healthz/ready", timeout=5).status)
except OSError as error:
    print(error)
"""


class Running:
    """A process inside, and what it has said."""

    def __init__(self, command: list[str], environment: dict[str, str], pass_fds: tuple[int, ...] = ()) -> None:
        self.log: list[str] = []
        self._told = threading.Condition()
        self.process = subprocess.Popen(
            command, env=os.environ | environment, stderr=subprocess.PIPE, text=True, pass_fds=pass_fds
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._told:
                self.log.append(line)
                self._told.notify_all()
        with self._told:
            self.log.append("(ended)")
            self._told.notify_all()

    def until_said(self, text: str, seconds: float = _SECONDS) -> None:
        def said() -> bool:
            return any(text in line for line in self.log) or "(ended)" in self.log

        with self._told:
            assert self._told.wait_for(said, seconds), "".join(self.log)
        assert any(text in line for line in self.log), "".join(self.log)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._reader.join(5)
            assert self.process.stderr is not None
            self.process.stderr.close()


class ApiServer:
    """One cluster's, reached from outside by a URL of its own and from inside on a port of 127.0.0.1."""

    def __init__(self, cell: Cell, cluster: str, port: int) -> None:
        self._cell = cell
        self.cluster = cluster
        self.inside = f"https://127.0.0.1:{port}"
        self.directory = cell.directory / cluster
        self.directory.mkdir()
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        settings = ApiServerSettings(
            cluster_id=cluster,
            directory=str(self.directory / "api"),
            bind=[f"127.0.0.1:{port}"],
            inherited_fds=[self._listener.fileno()],
            api_address=f"127.0.0.1:{port}",
        )
        (self.directory / "api.json").write_bytes(msgspec.json.encode(settings))
        self.start()

    def start(self) -> None:
        """Begins where it was ended."""
        descriptor = self._listener.fileno()
        command = [*_API_SERVER, "--settings", str(self.directory / "api.json")]
        self._process = self._cell.run(command, pass_fds=(descriptor,))
        self._process.until_said("serving", _START_SECONDS)

    def stop(self) -> None:
        assert self._process.end() == 0, "".join(self._process.log)

    def close(self) -> None:
        self._listener.close()

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """As the administrator: (code, answer)."""
        headers = {"Authorization": f"Bearer {self._admin_token}", "Content-Type": content_type}
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, headers, method=method)
        context = ssl.create_default_context(cadata=self._ca_pem)
        try:
            with urllib.request.urlopen(asked, timeout=_SECONDS, context=context) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            said = refusal.read()
            # Of a group that it does not know a real server says so in plain text.
            return refusal.code, json.loads(said) if said.startswith(b"{") else {}

    def made(self, path: str, body: Any) -> Any:
        code, answer = self.request("POST", path, body)
        assert code in (200, 201), answer
        return answer

    def token(self, namespace: str, account: str, *audiences: str) -> str:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        spec = {"audiences": list(audiences), "expirationSeconds": 3600}
        token: str = self.made(path, {"spec": spec})["status"]["token"]
        return token

    def context(self, server: str, token: str = "") -> ContextEntry:
        return ContextEntry(name=self.cluster, server=server, ca_pem=self._ca_pem, token=token or self._admin_token)

    def going(self) -> list[str]:
        """Namespaces that are about to end."""
        items = self.request("GET", "/api/v1/namespaces")[1]["items"]
        return [item["metadata"]["name"] for item in items if "deletionTimestamp" in item["metadata"]]

    @property
    def _admin_token(self) -> str:
        return (self.directory / "api" / "admin-token").read_text().strip()

    @property
    def _ca_pem(self) -> str:
        return (self.directory / "api" / "ca.crt").read_text()


class Cell:
    """`start` runs something inside; whatever runs at the end is ended. `east` is its first cluster."""

    address = "198.51.100.1"
    """Of the only machine inside. Endpoints must not be on the loopback's own network, says Kubernetes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        prepare = f"PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && ip addr add {self.address}/32 dev lo"
        self._holder = subprocess.Popen(
            ["unshare", "-Urn", "sh", "-c", f"{prepare} && echo up && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "up\n"
        self._running: list[Running] = []
        self._servers: list[ApiServer] = []
        self.east = self.cluster("east")
        self.request, self.made = self.east.request, self.east.made

    @property
    def inside(self) -> list[str]:
        return ["nsenter", "-t", str(self._holder.pid), "-U", "-n", "--preserve-credentials"]

    def cluster(self, name: str) -> ApiServer:
        """Another one."""
        server = ApiServer(self, name, 6443 + len(self._servers))
        self._servers.append(server)
        self._kubeconfig.write_text(render([each.context(each.url) for each in self._servers]))
        return server

    def start(self, *arguments: str, **environment: str) -> Running:
        return self.run([sys.executable, "-m", "isthmus.cli.app", *arguments], environment)

    def run(
        self, command: list[str], environment: dict[str, str] | None = None, pass_fds: tuple[int, ...] = ()
    ) -> Running:
        running = Running([*self.inside, *command], environment or {}, pass_fds)
        self._running.append(running)
        return running

    def control_plane(self, account: str = "", home: ApiServer | None = None, **environment: str) -> Running:
        """Where it is at home (east, if nothing is said); as the administrator, or with the rights of an account in istio-system and no others."""
        home = home or self.east
        token = home.token("istio-system", account) if account else ""
        kubeconfig = self.directory / f"inside-{home.cluster}-{account or 'admin'}.yaml"
        kubeconfig.write_text(render([home.context(home.inside, token)]))
        told = {"KUBECONFIG": str(kubeconfig), "CLUSTER_ID": "east", "NETWORK": "n1", **environment}
        running = self.start("control-plane", **told)
        running.until_said("serving")
        return running

    def sidecar_of_web(self, cluster: ApiServer, network: str, roots_pem: str) -> Running:
        """A proxy with the token of account web in namespace shop; returns when it is ready to serve."""
        token, roots = cluster.directory / "istio-token", cluster.directory / "root-cert.pem"
        token.write_text(cluster.token("shop", "web", "istio-ca"))
        roots.write_text(roots_pem)
        agent = self.start(
            *("agent", "sidecar", f"--directory={cluster.directory / 'p'}"),
            *(f"--token-file={token}", f"--roots-file={roots}"),
            POD_NAME="web-1",
            POD_NAMESPACE="shop",
            INSTANCE_IP="127.0.0.1",
            SERVICE_ACCOUNT="web",
            PROXY_CONFIG='{"discoveryAddress":"127.0.0.1:15012","terminationDrainDuration":"100ms"}',
            ISTIO_META_CLUSTER_ID=cluster.cluster,
            ISTIO_META_NETWORK=network,
        )
        agent.until_said("envoy runs")
        self.until("the proxy is ready", lambda: self.python(_READY).strip() == "200")
        return agent

    def isthmus(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The command, from outside; every cluster is a context, and east the current one."""
        told = os.environ | {"KUBECONFIG": str(self._kubeconfig)} | environment
        command = [sys.executable, "-m", "isthmus.cli.app", *arguments]
        return subprocess.run(command, env=told, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False)

    def python(self, script: str, *arguments: str) -> str:
        """What a script prints that runs inside."""
        done = subprocess.run(
            [*self.inside, sys.executable, "-c", script, *arguments],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def until(self, what: str, holds: Callable[[], Any]) -> Any:
        """The first answer that is true, asked again and again."""
        pause = threading.Event()
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            found = holds()
            if found:
                return found
            pause.wait(0.05)
        raise AssertionError(f"in {_SECONDS:g} s not: {what}")

    def close(self) -> None:
        for running in reversed(self._running):
            if running.process.poll() is None:
                running.end()
        for server in self._servers:
            server.close()
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait(20)

    @property
    def _kubeconfig(self) -> Path:
        return self.directory / "outside.yaml"


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    found = Cell(tmp_path_factory.mktemp("c"))
    try:
        yield found
    finally:
        found.close()
