"""A mesh for gRPC applications without a proxy: a control plane that serves one scenario, and real applications against it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from running_envoy import running_envoy

from isthmus.agent.certificates import Certificate
from isthmus.agent.grpc_bootstrap import ENVIRONMENT, CertificateFiles, grpc_bootstrap, write_certificate
from isthmus.assurance.rendering import proxy_in
from isthmus.assurance.scenario import Scenario, scenario_of
from isthmus.discovery.view import view_for
from isthmus.envoy.bundles import Bundles
from isthmus.envoy.compile import compile_outbound, compile_view
from isthmus.envoy.expand import as_json, document_of
from isthmus.envoy.resources import SECRET
from isthmus.envoy.secrets import bundle_secret, workload_secret
from isthmus.envoy.static import static_bootstrap
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import Namespace
from isthmus.trust import x509
from isthmus.trust.authority import CertificateAuthority
from isthmus.xds.directory import CallFacts, Newest, Streams
from isthmus.xds.native_server import native_server
from isthmus.xds.native_tls import ClientCertificate, server_context
from isthmus.xds.node import NodeClaims

APPLICATION = Path(__file__).parent / "proxyless" / "application.py"
CONTROL_PLANE = "localhost"
SECONDS = 120
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


def echo(*endpoints: tuple[str, str, int], called_at: int = 80) -> list[dict]:
    """The service, with endpoints (Pod, address, port)."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "echo", "namespace": "ns"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "grpc", "port": called_at}]},
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


def istio(kind: str, name: str, group: str, namespace: str = "ns", **spec) -> dict:
    return {
        "apiVersion": f"{group}.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def way_into(network: str, port: int) -> list[dict]:
    """A network gateway that passes every host of the mesh through."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "gw", "namespace": "istio-system",
            "labels": {"topology.istio.io/network": network, "networking.istio.io/gatewayPort": str(port)},
        },
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.2", "ports": [{"name": "tls", "port": port}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}},
    }  # fmt: skip
    exposed = istio(
        "Gateway", "cross", "networking", "istio-system", selector={"istio": "gw"},
        servers=[{
            "port": {"number": port, "name": "tls", "protocol": "TLS"},
            "tls": {"mode": "AUTO_PASSTHROUGH"}, "hosts": ["*.local"],
        }],
    )  # fmt: skip
    return [service, exposed]


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

    def told(self, feed: Newest, health: object) -> None:
        raise AssertionError("nobody here says how it is")

    def leaves(self, feed: Newest) -> None:
        raise AssertionError("nobody here has a better one")

    def bootstrap(self, name: str, ip: str, account: str, network: str, peers: Bundles | None = None) -> dict[str, str]:
        """The environment of an application without a proxy, as its agent would give it. `peers` are other trust domains' authorities."""
        files = CertificateFiles(self.directory / name)
        files.directory.mkdir()
        key = x509.new_key()
        identity = SpiffeId.of_service_account(TrustDomain("cluster.local"), Namespace("ns"), account)
        chain = self.authority.sign(x509.new_request(key), identity, datetime.now(UTC), timedelta(hours=1))
        certificate = Certificate("".join(chain[:-1]), x509.key_pem(key), self.authority.root_pem)
        write_certificate(certificate, files, peers)
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

    async def serve_plainly(self, address: str) -> None:
        """One that knows nothing of the mesh, behind a sidecar. It is waited for: the sidecar would answer in its place until it is there."""
        process = await self._run([sys.executable, str(APPLICATION), "serve-plainly", address], {})
        assert process.stdout is not None
        async with asyncio.timeout(SECONDS):
            assert await process.stdout.readline() == b"serving\n"

    async def call_plainly(self, target: str, times: int, *, patience: int = 60) -> list[str]:
        """As an application does that knows nothing of the mesh, by way of its sidecar."""
        return await self.call(target, times, {}, patience=patience, plainly=True)

    async def call(
        self, target: str, times: int, environment: dict[str, str], *, patience: int = 60, plainly: bool = False
    ) -> list[str]:
        """What the calls are answered. `patience` are seconds."""
        how = ("call-plainly", HOST) if plainly else ("call",)
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(APPLICATION), *how, target, str(times), str(patience),
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
        document = self._document(node)
        document["clusters"] = [each for each in document["clusters"] if not each["name"].startswith("outbound|")]
        await self._envoy(f"gateway-{network}", static_bootstrap(document))

    async def sidecar(self, name: str, ip: str, account: str, network: str) -> None:
        """A real Envoy with what the Pod's sidecar is given, and its certificate. Nothing is captured here: it serves what a Sidecar binds."""
        node = {
            "id": f"sidecar~{ip}~{name}.ns~ns.svc.cluster.local",
            "metadata": {"CLUSTER_ID": "east", "NETWORK": network, "NAMESPACE": "ns", "SERVICE_ACCOUNT": account,
                         "LABELS": {"app": name}, "INSTANCE_IPS": ip},
        }  # fmt: skip
        document = self._document(node)
        bound = [each for each in document["listeners"] if not each["name"].startswith("virtual")]
        whole = static_bootstrap({**document, "listeners": bound})
        whole["staticResources"]["secrets"] = self._secrets(account)
        await self._envoy(f"sidecar-{name}", _without_agent(whole))

    def _document(self, node: dict) -> dict:
        view = view_for(proxy_in(self.scenario, node), self.scenario.snapshot())
        return document_of(node, compile_view(view, compile_outbound(view.outbound)))

    def _secrets(self, account: str) -> list[dict]:
        """What the Pod's agent would serve."""
        key = x509.new_key()
        domain = TrustDomain("cluster.local")
        identity = SpiffeId.of_service_account(domain, Namespace("ns"), account)
        chain = self.authority.sign(x509.new_request(key), identity, datetime.now(UTC), timedelta(hours=1))
        bundles = {domain: x509.to_der(self.authority.root_pem)}
        found = (
            workload_secret("".join(chain[:-1]), x509.key_pem(key)),
            bundle_secret(bundles),
            bundle_secret(bundles, "spiffe://cluster.local"),
            # Whom nobody can prove to be: endpoints of no identity.
            bundle_secret(bundles, "spiffe://nobody.invalid"),
        )
        return [as_json(SECRET, each) for each in found]

    async def _envoy(self, name: str, document: dict) -> None:
        directory = self.directory / name
        directory.mkdir()
        envoy = running_envoy(document, directory)
        await asyncio.to_thread(envoy.__enter__)
        self.running.push_async_callback(asyncio.to_thread, envoy.__exit__, None, None, None)

    async def _run(self, command: Sequence[str], environment: dict[str, str]) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *command, env=os.environ | environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )

        async def end() -> None:
            process.terminate()
            await process.wait()

        self.running.push_async_callback(end)
        return process


def _without_agent(node: object) -> object:
    """Secrets by their name alone are those of the bootstrap."""
    if isinstance(node, list):
        return [_without_agent(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {key: _without_agent(value) for key, value in node.items() if key != "sdsConfig"}


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
