"""A cluster of processes in a network namespace of its own, where every port is free: an API server, and what a test adds to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from isthmus.apiserver.settings import ApiServerSettings
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import load_file
from isthmus.kubernetes.resources import NAMESPACES
from isthmus.localruntime.controllers.actions import EmptyNamespace, carry_out

_SECONDS = 60.0
_API = "127.0.0.1:6443"


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

    def until_said(self, text: str) -> None:
        def said() -> bool:
            return any(text in line for line in self.log) or "(ended)" in self.log

        with self._told:
            assert self._told.wait_for(said, _SECONDS), "".join(self.log)
        assert any(text in line for line in self.log), "".join(self.log)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self._reader.join(5)
            assert self.process.stderr is not None
            self.process.stderr.close()


class Cell:
    """`start` runs something inside; whatever runs at the end is ended."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._holder = subprocess.Popen(
            ["unshare", "-Urn", "sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && echo up && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "up\n"
        self._running: list[Running] = []
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            settings = ApiServerSettings(
                cluster_id="east",
                directory=str(directory / "api"),
                bind=[_API],
                inherited_fds=[listener.fileno()],
                api_address=_API,
            )
            (directory / "api.json").write_bytes(msgspec.json.encode(settings))
            self.start(
                "apiserver", "--settings", str(directory / "api.json"), pass_fds=(listener.fileno(),)
            ).until_said("serving")
        (directory / "inside.yaml").write_text(self._kubeconfig(f"https://{_API}"))
        (directory / "outside.yaml").write_text(self._kubeconfig(self.url))

    @property
    def inside(self) -> list[str]:
        return ["nsenter", "-t", str(self._holder.pid), "-U", "-n", "--preserve-credentials"]

    def start(self, *arguments: str, pass_fds: tuple[int, ...] = (), **environment: str) -> Running:
        command = [*self.inside, sys.executable, "-m", "isthmus.cli.app", *arguments]
        running = Running(command, environment, pass_fds)
        self._running.append(running)
        return running

    def control_plane(self, account: str = "", **environment: str) -> Running:
        """As the administrator, or with the rights of an account in istio-system and no others."""
        kubeconfig = self.directory / "inside.yaml"
        if account:
            path = f"/api/v1/namespaces/istio-system/serviceaccounts/{account}/token"
            token = self.made(path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
            kubeconfig = self.directory / f"{account}.yaml"
            kubeconfig.write_text(self._kubeconfig(f"https://{_API}", {"token": token}))
        told = {"KUBECONFIG": str(kubeconfig), "CLUSTER_ID": "east", "NETWORK": "n1", **environment}
        running = self.start("control-plane", **told)
        running.until_said("serving")
        return running

    def isthmus(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The command, from outside."""
        told = os.environ | {"KUBECONFIG": str(self.directory / "outside.yaml")} | environment
        command = [sys.executable, "-m", "isthmus.cli.app", *arguments]
        return subprocess.run(command, env=told, capture_output=True, text=True, timeout=_SECONDS, check=False)

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

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        """As the administrator: (code, answer)."""
        token = (self.directory / "api" / "admin-token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, headers, method=method)
        context = ssl.create_default_context(cadata=self._ca_pem)
        try:
            with urllib.request.urlopen(asked, timeout=_SECONDS, context=context) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.load(refusal)

    def made(self, path: str, body: Any) -> Any:
        code, answer = self.request("POST", path, body)
        assert code in (200, 201), answer
        return answer

    def end_namespaces(self) -> None:
        """What a cluster's namespace controller does with those that are going."""

        async def empty() -> None:
            async with ApiClient(load_file(self.directory / "outside.yaml")) as client:
                for item in (await client.list_objects(NAMESPACES))["items"]:
                    if item["metadata"].get("deletionTimestamp"):
                        while (
                            await client.list_objects(
                                NAMESPACES, fieldSelector=f"metadata.name={item['metadata']['name']}"
                            )
                        )["items"]:
                            await carry_out(client, EmptyNamespace(item["metadata"]["name"]))

        asyncio.run(empty())

    def until(self, what: str, holds: Callable[[], Any]) -> Any:
        """The first answer that is true, watching what changes."""
        deadline = threading.Event()
        timer = threading.Timer(_SECONDS, deadline.set)
        timer.start()
        try:
            while not deadline.is_set():
                found = holds()
                if found:
                    return found
                deadline.wait(0.05)
        finally:
            timer.cancel()
        raise AssertionError(f"in {_SECONDS:g} s not: {what}")

    def close(self) -> None:
        for running in reversed(self._running):
            if running.process.poll() is None:
                running.end()
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait(20)

    @property
    def _ca_pem(self) -> str:
        return (self.directory / "api" / "ca.crt").read_text()

    def _kubeconfig(self, server: str, user: dict[str, str] | None = None) -> str:
        files = {"certificate-authority": str(self.directory / "api" / "ca.crt")}
        user = user or {"tokenFile": str(self.directory / "api" / "admin-token")}
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "east", "cluster": {"server": server, **files}}],
                "users": [{"name": "east", "user": user}],
                "contexts": [{"name": "east", "context": {"cluster": "east", "user": "east"}}],
                "current-context": "east",
            }
        )


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    found = Cell(tmp_path_factory.mktemp("c"))
    try:
        yield found
    finally:
        found.close()
