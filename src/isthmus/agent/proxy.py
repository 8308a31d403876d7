"""One Envoy and everything that the agent keeps for it: certificate, secrets socket, name table and DNS, readiness."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web

from isthmus.agent import namespaces
from isthmus.agent.certificates import Certificate, CertificateHolder, ControlPlanes, Credentials
from isthmus.agent.envoy_admin import EnvoyAdmin, EnvoyUnavailable
from isthmus.agent.families import LOOPBACKS
from isthmus.agent.grpc_bootstrap import (
    REFRESH_SECONDS,
    CertificateFiles,
    grpc_bootstrap,
    write_certificate,
)
from isthmus.agent.homecoming import Homecoming
from isthmus.agent.last_good import LastGood
from isthmus.agent.last_good_server import LastGoodServer
from isthmus.agent.own_trust import Answer, OwnTrustKeeper
from isthmus.agent.proof import shown_to_envoy, verified_by_files
from isthmus.agent.roots_file import follow_roots
from isthmus.agent.secrets_server import SecretsServer
from isthmus.agent.sockets import serve_privately
from isthmus.agent.specification import ADMIN_SOCKET, AgentSettings, ProxyReady, ProxySpec
from isthmus.agent.subscription import Subscription
from isthmus.dns.answers import NameTable
from isthmus.dns.server import DnsServer
from isthmus.envoy.bootstrap import BootstrapSettings, bootstrap, envoy_arguments
from isthmus.envoy.bundles import Bundles
from isthmus.envoy.dump import resources_in
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import Namespace
from isthmus.model.proxy_config_words import read
from isthmus.model.trust import OwnTrust
from isthmus.model.views import NameRecord
from isthmus.trust.private_files import write_privately

DNS_PORT = 15053
_MUTUAL_TLS_PORT = 15013
_LOOK_SECONDS = 2.0
_KEEP_SECONDS = 30.0
_GIVEN = ("cluster_manager.cds.update_success", "listener_manager.lds.update_success")
"""Counters of Envoy: when they stand still, so does its configuration, but for endpoints."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Paths:
    """The files of one proxy."""

    directory: Path

    @property
    def bootstrap(self) -> Path:
        return self.directory / "bootstrap.json"

    @property
    def admin(self) -> Path:
        return self.directory / ADMIN_SOCKET

    @property
    def secrets(self) -> Path:
        return self.directory / "sds.sock"

    @property
    def last_good(self) -> Path:
        return self.directory / "last-good.sock"

    @property
    def health(self) -> Path:
        return self.directory / "health.sock"

    @property
    def proof(self) -> Path:
        return self.directory / "proof.sock"


class Proxy:
    """`run` until cancelled; `ready` once Envoy may be started."""

    def __init__(self, spec: ProxySpec, settings: AgentSettings, control_planes: ControlPlanes) -> None:
        self.spec = spec
        self._settings = settings
        self._config, _ = read(spec.proxy_config)
        self._paths = _Paths(Path(spec.directory))
        self._last_good = LastGood(settings.last_good, spec)
        self._secrets = SecretsServer(self._paths.secrets)
        self._admin = EnvoyAdmin(self._paths.admin)
        self._last_resort = LastGoodServer(self._paths.last_good, self._last_good, self._admin.is_live)
        opened = partial(namespaces.open_socket, spec.net_namespace, marked=spec.marks_sockets)
        self._dns = DnsServer(spec.name_servers, opened)
        self._certificate = CertificateHolder(
            control_planes,
            cluster=settings.cluster_id,
            identity=_identity(spec, settings),
            token_file=spec.token_file,
            root_cert_file=spec.root_cert_file,
            seconds=settings.certificate_seconds,
            changed=self._certified,
            last_good=self._last_good.certificate,
            proves_by_certificate=settings.proves_by_certificate,
        )
        self._subscription = Subscription(
            control_planes,
            node=node_of(spec, settings),
            cluster=settings.cluster_id,
            credentials=self._certificate.credentials,
            root_cert_file=spec.root_cert_file,
            wants_names=spec.dns_capture,
            named=self._named,
            trusted=self._trusted,
            asked=self._own_trust_asked,
            last_names=self._last_good.names,
            last_peers=self._last_good.peers,
        )
        self._homecoming = Homecoming(
            control_planes,
            self._admin,
            node=node_of(spec, settings),
            cluster=settings.cluster_id,
            credentials=self._certificate.credentials,
            root_cert_file=spec.root_cert_file,
            followed=lambda: self._subscription.rank,
        )
        self._has_a_choice = control_planes.count > 1
        self._own_trust = OwnTrustKeeper(
            self._certificate, spec.root_cert_file, self._not_accepted, self._proved, self._secrets.refuse
        )
        self._peers: Bundles = {}
        self._written_at = 0.0
        self._has_certificate = asyncio.Event()
        self._serving = asyncio.Event()
        self.draining = False

    async def run(self) -> None:
        """Everything of this proxy. A mistake in one part ends this proxy's, and no other's."""
        health = web.AppRunner(self._health_pages(), access_log=None)
        try:
            await self._secrets.start()
            if self._settings.last_good:
                await self._last_resort.start()
            await health.setup()
            await serve_privately(health, self._paths.health)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._certificate.run(), name=f"certificate {self.spec.name}")
                tasks.create_task(self._subscription.run(), name=f"subscription {self.spec.name}")
                tasks.create_task(self._own_trust.run(), name=f"own trust {self.spec.name}")
                tasks.create_task(
                    follow_roots(Path(self.spec.root_cert_file), self._secrets.check_control_planes),
                    name=f"roots {self.spec.name}",
                )
                if self.spec.dns_capture:
                    for loopback in (LOOPBACKS[family] for family in self.spec.families):
                        bound = partial(
                            namespaces.bound_socket, self.spec.net_namespace, address=loopback, port=DNS_PORT
                        )
                        udp, tcp = bound(kind=socket.SOCK_DGRAM), bound(kind=socket.SOCK_STREAM)
                        tasks.create_task(self._dns.run(udp, tcp), name=f"dns {self.spec.name} {loopback}")
                await self._has_certificate.wait()
                self._write_bootstrap()
                self._serving.set()
                if self._has_a_choice:
                    tasks.create_task(self._homecoming.run(), name=f"homecoming {self.spec.name}")
                if self._settings.last_good:
                    tasks.create_task(self._keep_configuration(), name=f"keep {self.spec.name}")
        finally:
            await health.cleanup()
            await self._last_resort.stop()
            await self._secrets.stop()
            await self._admin.close()

    async def ready(self) -> ProxyReady:
        """How to start Envoy, once there is a certificate to start it with."""
        await self._serving.wait()
        path = str(self._paths.bootstrap)
        arguments = envoy_arguments(
            path, concurrency=self.spec.concurrency, log_level=self.spec.log_level, config=self._config
        )
        return ProxyReady(bootstrap=path, arguments=arguments)

    @property
    def credentials(self) -> Callable[[], Credentials]:
        """How to show for whom control planes are asked."""
        return self._certificate.credentials

    async def drain(self) -> None:
        """Not ready any more; connections are told to close as they can. Raises EnvoyUnavailable."""
        self.draining = True
        await self._admin.begin_drain()

    async def missing(self) -> list[str]:
        """What readiness waits for, in words; empty when ready."""
        missing = []
        if self.draining:
            missing.append("the proxy is draining")
        if self._certificate.current is None:
            missing.append(f"no certificate yet: {self._certificate.last_error or 'asked for'}")
        if self.spec.dns_capture and self._dns.table is None:
            missing.append(f"no name table yet: {self._subscription.last_error or 'asked for'}")
        if self.spec.grpc_bootstrap:
            return missing
        if not await self._admin.is_live():
            missing.append("Envoy is not live")
            return missing
        try:
            for name, what in (
                ("cluster_manager.cds.update_success", "clusters"),
                ("listener_manager.lds.update_success", "listeners"),
            ):
                if not await self._admin.counter(name):
                    missing.append(f"Envoy has received no {what}")
        except EnvoyUnavailable as error:
            missing.append(f"Envoy does not answer: {error}")
        return missing

    def certificate_expires(self) -> datetime | None:
        """None before there is one."""
        certificate = self._certificate.current
        return certificate.facts.not_after if certificate else None

    def state(self) -> dict[str, Any]:
        """For `GET /proxies`."""
        certificate = self._certificate.current
        return {
            "name": f"{self.spec.namespace}/{self.spec.name}",
            "identity": str(certificate.identity) if certificate else "",
            "serial": certificate.facts.serial if certificate else "",
            "notAfter": certificate.facts.not_after.isoformat() if certificate else "",
            "names": len(self._dns.table) if self._dns.table else 0,
            "questions": self._dns.questions,
            "forwarded": self._dns.upstream.asked,
            "unanswered": self._dns.upstream.failed,
            "draining": self.draining,
            "lastError": self._certificate.last_error
            or (self._subscription.last_error if self.spec.dns_capture else ""),
        }

    def _certified(self, certificate: Certificate) -> None:
        self._write_certificate(certificate)
        self._last_good.keep_certificate(certificate)
        self._secrets.put(certificate)
        self._has_certificate.set()

    def _trusted(self, peers: Bundles) -> None:
        """Others' authorities, as of now; our own come with the certificate."""
        self._peers = peers
        self._last_good.keep_peers(peers)
        if self._certificate.current is not None:
            self._write_certificate(self._certificate.current)
        self._secrets.trust(peers)

    def _own_trust_asked(self, asked: OwnTrust, answer: Answer) -> None:
        self._own_trust.ask(asked, answer)

    def _not_accepted(self) -> str:
        """Of its secrets. gRPC reads its files again in its own time, and acknowledges nothing: it has them when that time is over."""
        if not self.spec.grpc_bootstrap:
            return self._secrets.not_accepted()
        left = self._written_at + REFRESH_SECONDS - asyncio.get_running_loop().time()
        return "gRPC has not read its files again" if left > 0 else ""

    async def _proved(self, shown: Certificate) -> str:
        held = self._certificate.current
        assert held is not None, "nothing is proved before there is one"
        if self.spec.grpc_bootstrap:
            return verified_by_files(shown, held.roots_pem)
        return await shown_to_envoy(self._paths.proof, shown, held.roots_pem)

    def _write_certificate(self, certificate: Certificate) -> None:
        if self.spec.grpc_bootstrap:
            write_certificate(certificate, CertificateFiles(Path(self.spec.grpc_bootstrap).parent), self._peers)
            self._written_at = asyncio.get_running_loop().time()

    def _named(self, records: tuple[NameRecord, ...]) -> None:
        self._last_good.keep_names(records)
        self._dns.table = NameTable.prepare(
            records,
            namespace=self.spec.namespace,
            dns_domain=self._settings.dns_domain,
            search_domains=self.spec.search_domains,
        )

    async def _keep_configuration(self) -> None:
        """What Envoy has accepted, for another one of the workload; again whenever it has been given something new, but not all the time."""
        kept = 0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                given = sum([await self._admin.counter(name) for name in _GIVEN])
                if given == kept or not await self._admin.is_live():
                    continue
                resources = resources_in(msgspec.json.decode(await self._admin.configuration()))
            except (EnvoyUnavailable, msgspec.DecodeError):
                continue
            except ValueError as error:
                log.warning("configuration not kept", proxy=self.spec.name, error=str(error))
                return
            self._last_good.keep_configuration(resources)
            kept = given
            await asyncio.sleep(_KEEP_SECONDS)

    def _write_bootstrap(self) -> None:
        if self.spec.grpc_bootstrap:
            path = Path(self.spec.grpc_bootstrap)
            targets = [
                f"{_host(each)}:{_MUTUAL_TLS_PORT}"
                for each in self.spec.control_planes or self._settings.control_planes
            ]
            node = node_of(self.spec, self._settings)
            write_privately(path, grpc_bootstrap(node, targets, CertificateFiles(path.parent)))
        content = bootstrap(
            BootstrapSettings(
                node=node_of(self.spec, self._settings),
                control_planes=tuple(
                    (_host(a), _MUTUAL_TLS_PORT) for a in self.spec.control_planes or self._settings.control_planes
                ),
                control_plane_name=self.spec.control_plane_name or self._settings.control_plane_name,
                last_good_socket=str(self._paths.last_good) if self._settings.last_good else "",
                sds_socket=str(self._paths.secrets),
                admin_socket=str(self._paths.admin),
                health_socket=str(self._paths.health),
                proof_socket=str(self._paths.proof),
                marks_sockets=self.spec.marks_sockets,
                config=self._config,
            )
        )
        write_privately(self._paths.bootstrap, content)

    def _health_pages(self) -> web.Application:
        async def ready(_: web.Request) -> web.Response:
            missing = await self.missing()
            return web.Response(status=503 if missing else 200, text="; ".join(missing) or "ready")

        application = web.Application()
        application.router.add_get("/healthz/ready", ready)
        return application


def _identity(spec: ProxySpec, settings: AgentSettings) -> SpiffeId:
    """What the workload will be called. Raises ValueError for a trust domain that is none."""
    domain = TrustDomain.parse(settings.trust_domain)
    return SpiffeId.of_service_account(domain, Namespace(spec.namespace), spec.service_account)


def node_of(spec: ProxySpec, settings: AgentSettings) -> dict[str, Any]:
    """The xDS Node, with the metadata that Istio's agents send."""
    domain = f"{spec.namespace}.svc.{settings.dns_domain}"
    return {
        "id": f"{spec.kind}~{spec.ip}~{spec.name}.{spec.namespace}~{domain}",
        "cluster": f"{spec.workload_name}.{spec.namespace}",
        "metadata": {
            "CLUSTER_ID": settings.cluster_id,
            "MESH_ID": settings.mesh_id,
            "NETWORK": spec.network,
            "NAMESPACE": spec.namespace,
            "NAME": spec.name,
            "NODE_NAME": spec.node,
            "SERVICE_ACCOUNT": spec.service_account,
            "WORKLOAD_NAME": spec.workload_name,
            "LABELS": spec.labels,
            "INSTANCE_IPS": ",".join(spec.ips),
            "DNS_CAPTURE": "true" if spec.dns_capture else "false",
            "REQUESTED_NETWORK_VIEW": spec.network_view,
            **({"PROXY_CONFIG": spec.proxy_config} if spec.proxy_config else {}),
            **spec.metadata,
        },
    }


def _host(address: str) -> str:
    return address.rpartition(":")[0]
