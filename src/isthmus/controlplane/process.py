"""The control plane process: everything constructed, connected and run, in the order in which it reads."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
import uvloop

from isthmus.controlplane.authority import (
    AuthorityInUse,
    AuthoritySecrets,
    follow_files,
    load_authority,
    load_files,
    subject_of_authority,
)
from isthmus.controlplane.bundle_exchange import exchange_bundles
from isthmus.controlplane.cluster_set_writer import LEASE as CLUSTER_SET_LEASE
from isthmus.controlplane.cluster_set_writer import ClusterSetWriter
from isthmus.controlplane.clusters import RemoteClusters, RemoteSettings
from isthmus.controlplane.debug import DebugPages
from isthmus.controlplane.delivery import Delivery
from isthmus.controlplane.drains import Drains
from isthmus.controlplane.duties import duties
from isthmus.controlplane.external_signer import ExternalSigner
from isthmus.controlplane.external_trust import OWN_LIFETIME, ExternalTrust, subject_of_roots
from isthmus.controlplane.feeds import ClusterFeed, kinds_of
from isthmus.controlplane.gateway_deployments import GatewayDeployer
from isthmus.controlplane.gateway_writer import LEASE, GatewayWriter
from isthmus.controlplane.host_names import HostNames, own_name_servers
from isthmus.controlplane.issuance_log import IssuanceLog
from isthmus.controlplane.kept_clusters import KeptClusters
from isthmus.controlplane.kept_keys import KeptKeys
from isthmus.controlplane.loop_lag import LoopLag
from isthmus.controlplane.machines import Machines
from isthmus.controlplane.outside_tokens import OutsideTokens
from isthmus.controlplane.own_trust import OwnTrustDuty
from isthmus.controlplane.peers import Peers
from isthmus.controlplane.pods_known import may_run, pods_of
from isthmus.controlplane.ports import MUTUAL_TLS_PORT, TOKEN_PORT, methods_of, proxy_ports
from isthmus.controlplane.settings import BadSetting, ControlPlaneSettings
from isthmus.controlplane.shown import Shown
from isthmus.controlplane.spare_memory import keep_small
from isthmus.controlplane.token_keys import TokenKeys
from isthmus.controlplane.token_reviews import TokenReviews
from isthmus.controlplane.webhooks import WEBHOOK_PORT, Webhooks, serving_webhooks
from isthmus.controlplane.world import World
from isthmus.kubernetes.client import ApiClient
from isthmus.kubernetes.errors import ApiUnavailable, NotFound
from isthmus.kubernetes.kubeconfig import BadKubeconfig, address_from_secret, load_file
from isthmus.kubernetes.lease_client import Leadership
from isthmus.kubernetes.resources import SECRETS
from isthmus.kubernetes.sites import serving
from isthmus.model.names import ClusterId
from isthmus.model.proxy_config import ProxyConfigs
from isthmus.model.snapshot import MeshSettings
from isthmus.peering.messages import PORT as PORT_FOR_PEERS
from isthmus.trust.authentication import Authenticator
from isthmus.trust.impersonation import NodeAgents
from isthmus.trust.registration import RegistrationAuthority
from isthmus.trust.server import CertificateService
from isthmus.trust.x509 import BadCertificate
from isthmus.xds.directory import Streams
from isthmus.xds.native_tls import ClientCertificate

MONITORING_PORT = 15014
READINESS_PORT = 8080
_USER_AGENT = "isthmus-control-plane"
_CONFIG_KEY = "config"
_RETRY_SECONDS = 0.2
_LATE_SECONDS = 15.0

log = structlog.get_logger()


def main(environment: Mapping[str, str] | None = None) -> int:
    """Runs until SIGTERM. The exit code is 1 for settings or credentials that cannot be used."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    failed = False
    try:
        settings = ControlPlaneSettings.from_environment(os.environ if environment is None else environment)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_terminated(settings))
    except* (BadSetting, BadKubeconfig, BadCertificate, OSError) as errors:
        for error in _each(errors):
            sys.stderr.write(f"isthmus control-plane: {error}\n")
        failed = True
    return int(failed)


def _each(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """What a group of tasks failed with, however deep its groups are in each other."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error


async def _until_terminated(settings: ControlPlaneSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(serve(settings), name="control plane")
        await stop.wait()
        work.cancel()


async def serve(settings: ControlPlaneSettings) -> None:
    """Until cancelled."""
    world = World(_mesh_settings(settings), settings.cluster)
    async with (
        ApiClient(settings.in_cluster or load_file(Path(settings.kubeconfig)), user_agent=_USER_AGENT) as home,
        _config_cluster(home, settings) as client,
    ):
        trust = _trust(client, settings)
        use = await _authority(home, settings, world, trust)
        await _Process(settings, world, home, client, use, trust).run()


def _mesh_settings(settings: ControlPlaneSettings) -> MeshSettings:
    return MeshSettings(
        mesh=settings.mesh,
        trust_domain=settings.trust_domain,
        root_namespace=settings.system_namespace,
        revision=settings.revision,
        cluster_set=settings.cluster_set,
        global_names=settings.global_names,
        unreachable_networks_direct=settings.unreachable_networks_direct,
        wishes=settings.wishes,
        policies_mean_any_trust_domain=settings.policies_mean_any_trust_domain,
        key_source=settings.key_source,
    )


class _Process:
    """The drawing of the process: its parts, and who is told what by whom. `home` is the cluster that it runs in, `client` the config cluster's."""

    def __init__(
        self,
        settings: ControlPlaneSettings,
        world: World,
        home: ApiClient,
        client: ApiClient,
        use: AuthorityInUse,
        trust: ExternalTrust | None,
    ) -> None:
        self._settings, self._world, self._home, self._client, self._use = settings, world, home, client, use
        self._trust = trust
        self._me = f"{settings.home}/{settings.pod_name}"
        self._shown = Shown(settings.served_names, use.current, _now)
        use.changed.append(self._shown.renew)
        machines = Machines(
            world,
            me=self._me,
            system_namespace=settings.system_namespace,
            grace_seconds=settings.machine_grace_seconds,
        )
        self._writing = duties(settings, use, world.report, machines.run)
        self._own = ClusterFeed(settings.cluster, client, world, kinds_of(world.settings, is_config_cluster=True))
        secrets = home if settings.remote_secrets_at_home else client
        self._remotes = RemoteClusters(world, secrets, _remote_settings(settings, self._writing))
        issuer = settings.outside_issuer
        self._outside = OutsideTokens(issuer, settings.key_fetching) if issuer is not None else None
        authenticator = Authenticator(
            settings.trust_domain,
            settings.cluster,
            TokenReviews(self._client_of).review,
            time.monotonic,
            settings.cluster_aliases,
            self._outside.account if self._outside is not None else None,
            partial(may_run, world),
        )
        self._delivery = Delivery(world, authenticator, machines)
        registration = RegistrationAuthority(
            settings.trust_domain,
            lambda: use.current,
            authenticator,
            _now,
            lifetimes=settings.lifetimes,
            node_agents=NodeAgents(settings.node_agents, partial(pods_of, world)),
            prepared=lambda: use.prepared,
            elsewhere=trust.signer if trust is not None else None,
        )
        self._unary = methods_of(CertificateService(registration, IssuanceLog(settings.issuance_log)))
        self._peers = Peers.of(settings, world, self._delivery, lambda: use.current)
        self._streams = Streams()
        self._webhooks = Webhooks(settings.injection, partial(_proxy_configs, self._delivery), world.is_too_many)
        self._lag = LoopLag()
        self._pages = DebugPages(
            settings,
            self._delivery,
            self._own,
            self._remotes,
            self._streams,
            [self._webhooks, self._lag],
            partial(_held, use, self._shown),
            self._peers,
        )

    def _client_of(self, cluster: ClusterId) -> ApiClient:
        """Raises KeyError for a cluster that is not discovered."""
        return self._client if cluster == self._settings.cluster else self._remotes.client_for(cluster)

    async def run(self) -> None:
        """Reads first, then tells what it knows, then lets proxies in."""
        bind = self._settings.bind
        async with (
            serving(self._pages.readiness(), bind, READINESS_PORT),
            serving(self._pages.monitoring(), bind, MONITORING_PORT),
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._lag.run(), name="lag of the event loop")
            self._follow_trust(tasks)
            await self._read(tasks)
            await self._ask_around(tasks)
            self._tell(tasks)
            await self._let_in()

    def _follow_trust(self, tasks: asyncio.TaskGroup) -> None:
        if self._outside is not None:
            tasks.create_task(self._outside.run(), name="keys of the outside issuer")
        if self._trust is not None:
            tasks.create_task(self._trust.run(self._use), name="signers")
        else:
            tasks.create_task(_follow_authority(self._home, self._settings, self._use), name="authority")
        tasks.create_task(self._shown.keep(lambda: self._use.current), name="serving certificate")
        own_trust = OwnTrustDuty(
            self._home,
            self._world,
            self._use,
            self._shown,
            self._streams,
            name=self._settings.pod_name,
            cluster=self._settings.home,
            namespace=self._settings.system_namespace,
        )
        tasks.create_task(own_trust.run(), name="own trust")

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        """Until the own cluster has been read, and the others have had their time."""
        visible = asyncio.Event()
        tasks.create_task(self._own.run(visible.set), name="own cluster")
        tasks.create_task(self._remotes.run(), name="remote clusters")
        tasks.create_task(self._writing(self._settings.cluster, self._client), name="roots and webhooks")
        drains = Drains(self._client, self._world, self._settings.cluster, self._settings.system_namespace)
        tasks.create_task(drains.run(), name="drains")
        tasks.create_task(keep_small(self._streams.encoded.forget), name="spare memory")
        await visible.wait()
        if not await self._remotes.settled():
            late = [row.id for row in self._remotes.table() if row.syncStatus != "synced"]
            log.warning("starting without some remote clusters", clusters=late)

    async def _ask_around(self, tasks: asyncio.TaskGroup) -> None:
        """Name servers, and other meshes."""
        if self._settings.resolve_host_names:
            host_names = HostNames(self._world, own_name_servers().look_up)
            tasks.create_task(host_names.run(), name="host names of gateways")
            await host_names.first_round()
        tasks.create_task(self._peers.run(self._settings.bind), name="other meshes")
        await self._peers.first_round()

    def _tell(self, tasks: asyncio.TaskGroup) -> None:
        """Whatever follows from the newest snapshot."""
        settings, world, delivery = self._settings, self._world, self._delivery
        tasks.create_task(delivery.run(), name="delivery")
        kept = KeptKeys(settings.state_directory, _now)
        tasks.create_task(TokenKeys(world, delivery, settings.key_fetching, kept).run(), name="keys of tokens")
        exchange = exchange_bundles(
            settings.bundles,
            self._home,
            self._use,
            world,
            delivery,
            identity=settings.identity,
            cluster=settings.cluster,
            namespace=settings.system_namespace,
            bind=settings.bind,
        )
        tasks.create_task(exchange, name="bundles")
        lease = partial(Leadership, self._client, settings.system_namespace, identity=self._me)
        lead = partial(_lead, self._client, world, delivery)
        tasks.create_task(lease(LEASE).run(lead), name="gateways of Gateway API")
        if settings.cluster_set_controller:
            imports = ClusterSetWriter(self._client, world, delivery, self._remotes.are_all_known)
            tasks.create_task(lease(CLUSTER_SET_LEASE).run(imports.run), name="cluster set")

    async def _let_in(self) -> None:
        """Proxies, agents and API servers. Until cancelled."""
        settings = self._settings
        addresses = {
            ClientCertificate.WELCOME: (settings.bind, TOKEN_PORT),
            ClientCertificate.DEMANDED: (settings.bind, MUTUAL_TLS_PORT),
        }
        async with (
            proxy_ports(settings.ads_transport, addresses, self._shown, self._delivery, self._unary, self._streams),
            serving_webhooks(self._webhooks, self._shown, settings.bind, WEBHOOK_PORT),
        ):
            self._pages.serves_proxies = True
            await _serving(settings)


def _now() -> datetime:
    return datetime.now(UTC)


async def _lead(client: ApiClient, world: World, delivery: Delivery) -> None:
    """What one control plane does for all of the config cluster."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(GatewayWriter(client, world, delivery).run(), name="statuses")
        tasks.create_task(GatewayDeployer(client, world, delivery).run(), name="deployments of gateways")


async def _serving(settings: ControlPlaneSettings) -> None:
    # What was read until now lives as long as the process: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    # What is allocated afterwards mostly dies with its round: looking for cycles every 700 objects finds nothing.
    gc.set_threshold(50_000, 5, 5)
    log.info(
        "serving",
        cluster=settings.cluster,
        ports=[TOKEN_PORT, MUTUAL_TLS_PORT, WEBHOOK_PORT, MONITORING_PORT, PORT_FOR_PEERS],
        transport=settings.ads_transport.value,
    )
    await asyncio.Event().wait()


def _held(use: AuthorityInUse, shown: Shown) -> dict[str, str]:
    """What this process signs and serves with, without keys."""
    authority = use.current
    return {
        "authority": authority.authority_pem,
        "roots": authority.root_pem,
        "serving": shown.current.serving.chain_pem,
    }


def _proxy_configs(delivery: Delivery) -> ProxyConfigs:
    snapshot = delivery.snapshot
    return snapshot.proxy_configs if snapshot is not None else ProxyConfigs()


@contextlib.asynccontextmanager
async def _config_cluster(home: ApiClient, settings: ControlPlaneSettings) -> AsyncIterator[ApiClient]:
    """Home itself; or, for a control plane outside the mesh, the cluster that a Secret at home leads to. It is waited for."""
    if not settings.config_secret:
        yield home
        return
    began = time.monotonic()
    while True:
        try:
            secret = await home.get(SECRETS, settings.config_secret, settings.system_namespace)
            break
        except (ApiUnavailable, NotFound) as error:
            _waiting(began, "the kubeconfig of the config cluster", error)
            await asyncio.sleep(_RETRY_SECONDS)
    text = base64.b64decode((secret.get("data") or {}).get(_CONFIG_KEY, "")).decode(errors="replace")
    address = address_from_secret(text)
    async with ApiClient(address, user_agent=_USER_AGENT) as client:
        yield client


def _remote_settings(
    settings: ControlPlaneSettings, writing: Callable[[ClusterId, ApiClient], Coroutine[None, None, None]]
) -> RemoteSettings:
    return RemoteSettings(
        duties=writing,
        rules=settings.remote_rules,
        sync_seconds=settings.remote_sync_seconds,
        policy=settings.stale_policy,
        directory=settings.remote_kubeconfigs,
        kept=KeptClusters(settings.state_directory),
    )


def _trust(client: ApiClient, settings: ControlPlaneSettings) -> ExternalTrust | None:
    """Where somebody else signs."""
    rules = settings.signer
    if rules is None:
        return None
    longest = max(settings.lifetimes.longest, OWN_LIFETIME)
    signer = ExternalSigner(client, rules, _now, pod_name=settings.pod_name, longest=longest)
    return ExternalTrust(
        client,
        signer,
        identity=settings.identity,
        names=settings.served_names,
        namespace=settings.system_namespace,
    )


async def _authority(
    client: ApiClient, settings: ControlPlaneSettings, world: World, trust: ExternalTrust | None
) -> AuthorityInUse:
    """The API server may be starting, too: it is asked again for as long as it does not answer."""
    directory = settings.authority_directory
    subject = subject_of_authority(settings.home, settings.system_namespace, directory)
    report = partial(world.report, "authority")
    if trust is not None:
        return AuthorityInUse(
            await trust.first(), subject_of_roots(settings.cluster, settings.system_namespace), report
        )
    if directory:
        return AuthorityInUse(load_files(Path(directory)), subject, report)
    began = time.monotonic()
    while True:
        try:
            first = await load_authority(client, settings.system_namespace, settings.trust_domain)
            return AuthorityInUse(first, subject, report)
        except ApiUnavailable as error:
            _waiting(began, "the API server", error)
            await asyncio.sleep(_RETRY_SECONDS)


def _waiting(began: float, what: str, error: Exception) -> None:
    """What starts with us may come a little later; after a while something is wrong."""
    say = log.info if time.monotonic() - began < _LATE_SECONDS else log.warning
    say(f"waiting for {what}", error=str(error))


async def _follow_authority(client: ApiClient, settings: ControlPlaneSettings, use: AuthorityInUse) -> None:
    if settings.authority_directory:
        await follow_files(Path(settings.authority_directory), use)
    else:
        await AuthoritySecrets(client, settings.system_namespace, use).run()
