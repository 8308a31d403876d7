"""One real API server with its etcd and its controllers, started and ended as one process:

    python -m real_kubernetes.server --settings FILE

FILE is what the embedded API server is told (isthmus.apiserver.settings), and the files that it leaves in its directory are the same: `ca.crt` and
`admin-token`. So whatever starts the one can start the other. Started again in the same directory, it has what it had. Connections that come to
inherited sockets are handed on: the API server itself listens at the first address of `bind` alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
import time
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from isthmus.apiserver.credentials import Credentials, load_or_create
from isthmus.apiserver.settings import ApiServerSettings
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.kubeconfig import ApiAddress, ContextEntry, render
from isthmus.kubernetes.resources import CONFIG_MAPS
from real_kubernetes.building import SERVER, built
from real_kubernetes.processes import DidNotStart, running, until

ETCD_URL = "etcd-url"
"""The file that says where etcd answers."""
_AUTHORIZED = "RBAC"
_WITHOUT_A_NODE = (
    # The address of the Service `kubernetes` would have to be another than a loopback's.
    "--endpoint-reconciler-type=none",
    # Webhooks are reached at their endpoints: there is no kube-proxy.
    "--enable-aggregator-routing=true",
)
# For logs, and for commands in Pods: its name is known to nobody.
_WITH_A_NODE = ("--kubelet-preferred-address-types=InternalIP",)
_NEED_A_MACHINE = ("node-ipam-controller", "node-route-controller", "service-lb-controller", "cloud-node-lifecycle")


@dataclass(frozen=True, slots=True)
class Server:
    """Where everything of one server is. `address` is host and port."""

    settings: ApiServerSettings
    programs: Path
    etcd_port: int
    peer_port: int
    controllers_port: int

    @property
    def directory(self) -> Path:
        return Path(self.settings.directory)

    @property
    def address(self) -> str:
        return self.settings.bind[0]

    @property
    def etcd_url(self) -> str:
        return f"http://127.0.0.1:{self.etcd_port}"

    @property
    def signing_key(self) -> Path:
        """Of service accounts' tokens."""
        return self.directory / "signing.key"

    def etcd(self) -> list[str]:
        peer = f"http://127.0.0.1:{self.peer_port}"
        return [
            str(self.programs / "etcd"),
            f"--name={self.settings.cluster_id}",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={self.etcd_url}",
            f"--advertise-client-urls={self.etcd_url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={self.settings.cluster_id}={peer}",
            "--log-level=warn",
        ]

    def api_server(self) -> list[str]:
        host, _, port = self.address.rpartition(":")
        return [
            str(self.programs / "kube-apiserver"),
            f"--etcd-servers={self.etcd_url}",
            f"--bind-address={host}",
            f"--secure-port={port}",
            f"--advertise-address={host}",
            f"--tls-cert-file={self.directory / 'serving.pem'}",
            f"--tls-private-key-file={self.directory / 'serving.pem'}",
            f"--client-ca-file={self.directory / 'ca.crt'}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            f"--authorization-mode={_AUTHORIZED}",
            f"--service-account-issuer=https://{self.address}",
            f"--service-account-key-file={self.signing_key}",
            f"--service-account-signing-key-file={self.signing_key}",
            f"--service-cluster-ip-range={self.settings.service_cidr}",
            *(_WITHOUT_A_NODE if ip_address(host).is_loopback else _WITH_A_NODE),
            # Else its end waits for the ends of all watches.
            "--shutdown-watch-termination-grace-period=1s",
            f"--cert-dir={self.directory / 'certificates'}",
        ]

    def controllers(self) -> list[str]:
        return [
            str(self.programs / "kube-controller-manager"),
            f"--kubeconfig={self.directory / 'controllers.yaml'}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.controllers_port}",
            f"--cert-dir={self.directory / 'certificates'}",
            f"--root-ca-file={self.directory / 'ca.crt'}",
            f"--service-account-private-key-file={self.signing_key}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            # What would look after machines finds none.
            f"--controllers=*,-{',-'.join(_NEED_A_MACHINE)}",
        ]


def _prepare(settings: ApiServerSettings) -> tuple[Server, Credentials]:
    credentials = load_or_create(Path(settings.directory), settings.cluster_id, settings.tls_names)
    server = Server(settings, built(SERVER), *_free_ports(3))
    _write(server.directory / "tokens.csv", f'{credentials.admin_token},administrator,administrator,"system:masters"\n')
    # kube-apiserver reads EC keys in their older form alone.
    pem = credentials.signing_key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    _write(server.signing_key, pem.decode())
    entry = ContextEntry(
        name=settings.cluster_id,
        server=f"https://{server.address}",
        ca_pem=credentials.ca_pem,
        token=credentials.admin_token,
    )
    _write(server.directory / "controllers.yaml", render([entry]))
    _write(server.directory / ETCD_URL, server.etcd_url)
    return server, credentials


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


async def serve(settings: ApiServerSettings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Until it is told to stop; says when it serves. Raises DidNotStart."""
    server, credentials = _prepare(settings)
    logs = server.directory
    began = time.monotonic()
    async with (
        running(server.etcd(), logs / "etcd.log") as etcd,
        running(server.api_server(), logs / "kube-apiserver.log") as api,
        ApiClient(_address(server, credentials)) as client,
        contextlib.AsyncExitStack() as doors,
    ):
        await until(lambda: _is_ready(client), api, logs / "kube-apiserver.log")
        for descriptor in settings.inherited_fds:
            await doors.enter_async_context(await _door(socket.socket(fileno=descriptor), server.address))
        async with running(server.controllers(), logs / "kube-controller-manager.log") as controllers:
            await until(lambda: _is_controlled(client), controllers, logs / "kube-controller-manager.log")
            print(
                f"serving: {settings.cluster_id} at https://{server.address}, etcd at {server.etcd_url}, "
                f"after {time.monotonic() - began:.1f} s; processes "
                f"etcd={etcd.pid} kube-apiserver={api.pid} kube-controller-manager={controllers.pid}",
                file=sys.stderr,
                flush=True,
            )
            ready.set()
            await stop.wait()


async def _door(listener: socket.socket, address: str) -> asyncio.Server:
    """Whatever comes in at the socket goes to the address, and back."""
    host, _, port = address.rpartition(":")

    async def enter(outer_reader: asyncio.StreamReader, outer_writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_carry(outer_reader, inner_writer), name="in")
                tasks.create_task(_carry(inner_reader, outer_writer), name="out")
        except* OSError:
            outer_writer.close()

    return await asyncio.start_server(enter, sock=listener)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the end of the one is the end of the other."""
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def _address(server: Server, credentials: Credentials) -> ApiAddress:
    return ApiAddress(server=f"https://{server.address}", ca_pem=credentials.ca_pem, token=credentials.admin_token)


async def _is_ready(client: ApiClient) -> bool:
    await client.read("/readyz")
    return True


async def _is_controlled(client: ApiClient) -> bool:
    """What the controllers put into each namespace is the sign that they run."""
    await client.get(CONFIG_MAPS, "kube-root-ca.crt", "default")
    return True


async def _main(settings: ApiServerSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, stop, asyncio.Event())


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs one real API server until it is told to stop.")
    parser.add_argument("--settings", type=Path, required=True, help="what the embedded API server would be told")
    options = parser.parse_args()
    settings = msgspec.json.decode(options.settings.read_bytes(), type=ApiServerSettings)
    try:
        asyncio.run(_main(settings))
    except DidNotStart as error:
        print(f"real_kubernetes: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
