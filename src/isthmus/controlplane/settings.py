"""What a control plane process is told. Read once, at its edge, from the environment; then handed on as a value.

The names are Istio's where Istio has one, so that a manifest written for istiod says the same thing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

import msgspec

from isthmus import __version__
from isthmus.controlplane.bundle_exchange import REFRESH_HINT_SECONDS, BundleRules
from isthmus.controlplane.external_signer import SignerRules
from isthmus.controlplane.remote_secrets import RISKS, RemoteRules, accepted_risks
from isthmus.controlplane.staleness import HOLD, StalePolicy
from isthmus.controlplane.token_keys import REFRESH_SECONDS, KeyFetching
from isthmus.ingest.global_names import global_names_wanted
from isthmus.injection.selection import DEFAULT_REVISION
from isthmus.injection.settings import InjectionSettings
from isthmus.kubernetes.kubeconfig import SERVICE_ACCOUNT_DIRECTORY, ApiAddress, in_cluster
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace
from isthmus.model.security import KeySource
from isthmus.model.snapshot import ClusterSet, GlobalNames
from isthmus.model.traffic import Wishes
from isthmus.trust.issuance import Lifetimes
from isthmus.trust.oidc import OutsideIssuer

_OWN_MACHINE = "127.0.0.0/8,::1/128,169.254.0.0/16,fe80::/10"
"""Itself, and what its machine alone can reach, such as a cloud's service of credentials: no issuer of tenants is there."""
_KUBERNETES_SIGNERS, _SIGNED_BY = "ISTIOD_RA_KUBERNETES_API", "k8s.io/"


class BadSetting(ValueError):
    """A setting that cannot be used: which one, and why."""


class AdsTransport(Enum):
    """What speaks HTTP/2 to proxies: our own server, or gRPC's."""

    NATIVE = "native"
    GRPC = "grpc"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneSettings:
    """`kubeconfig` is a path; its current context is the config cluster. Empty: the cluster whose Pod this is, as `in_cluster` tells.

    A control plane that runs outside the mesh runs in `home`, not in its config cluster; then `kubeconfig` leads to home, and `config_secret`
    names the Secret there that holds a kubeconfig for the config cluster. Its authority's keys stay at home, too. What is labelled for another
    `revision` is not this one's. In `state_directory` it keeps what it knows of remote clusters; empty is nowhere.

    `cluster_set_controller`: whether it makes ServiceImports, in its config cluster.

    `remote_sync_seconds`: how long a remote cluster may hold up the first answer to proxies; 0 is for ever. `remote_kubeconfigs` is a
    directory of kubeconfigs that are read instead of remote secrets, or empty. `remote_secrets_at_home`: remote secrets are
    where the control plane runs, not in the config cluster. `served_names` are the DNS names in the
    serving certificate. `bind` is the address that all ports listen on. `node_agents` are namespace and service account of those who may
    ask for certificates of the workloads on their node. `ads_transport` is what speaks HTTP/2 to proxies. `key_source` says who fetches the
    keys that tokens are checked with, `key_fetching` how the control plane does. `resolve_host_names` of network gateways. Tokens of
    `outside_issuer` count beside those of clusters. `authority_directory` holds the authority's files, if they are not in a Secret.
    `issuance_log` is a file to which every certificate that is issued or refused is written, or empty.
    `bundles`: what is done about other trust domains' authorities. `signer`: who signs, where no authority's key is here.
    """

    cluster: ClusterId
    home: ClusterId
    config_secret: str
    state_directory: str
    mesh: MeshId
    trust_domain: TrustDomain
    kubeconfig: str
    in_cluster: ApiAddress | None
    system_namespace: Namespace
    pod_name: str
    revision: str
    bind: str
    remote_sync_seconds: float
    remote_rules: RemoteRules
    remote_kubeconfigs: str
    remote_secrets_at_home: bool
    stale_policy: StalePolicy
    served_names: tuple[str, ...]
    unreachable_networks_direct: bool
    resolve_host_names: bool
    policies_mean_any_trust_domain: bool
    wishes: Wishes
    cluster_set: ClusterSet
    cluster_set_controller: bool
    global_names: GlobalNames
    cluster_aliases: Mapping[str, ClusterId]
    node_agents: frozenset[tuple[str, str]]
    lifetimes: Lifetimes
    ads_transport: AdsTransport
    key_source: KeySource
    key_fetching: KeyFetching
    outside_issuer: OutsideIssuer | None
    machine_grace_seconds: float
    """How long the entry of a machine outlives its connection."""
    injection: InjectionSettings
    authority_directory: str
    issuance_log: str
    bundles: BundleRules
    signer: SignerRules | None

    @property
    def identity(self) -> SpiffeId:
        """Of this control plane, for other meshes'."""
        return SpiffeId.of_service_account(self.trust_domain, self.system_namespace, "istiod")

    @staticmethod
    def from_environment(environment: Mapping[str, str]) -> ControlPlaneSettings:
        """Raises BadSetting for a value that cannot be used, and for a required one that is missing."""
        namespace = environment.get("POD_NAMESPACE", "istio-system")
        revision = environment.get("REVISION", "default")
        return ControlPlaneSettings(
            cluster=ClusterId(environment.get("CLUSTER_ID", "Kubernetes")),
            home=ClusterId(environment.get("ISTHMUS_HOME_CLUSTER") or environment.get("CLUSTER_ID", "Kubernetes")),
            config_secret=environment.get("ISTHMUS_CONFIG_SECRET", ""),
            state_directory=environment.get("STATE_DIRECTORY", ""),
            mesh=MeshId(environment.get("MESH_ID", "mesh1")),
            trust_domain=_trust_domain(environment.get("TRUST_DOMAIN", "cluster.local")),
            kubeconfig=environment.get("KUBECONFIG", ""),
            in_cluster=_in_cluster(environment),
            system_namespace=Namespace(namespace),
            pod_name=environment.get("POD_NAME", "istiod"),
            revision=revision,
            bind=environment.get("BIND_ADDRESS", "0.0.0.0"),
            remote_sync_seconds=_seconds(environment, "PILOT_REMOTE_CLUSTER_TIMEOUT", 30.0),
            remote_rules=RemoteRules(
                own_cluster=ClusterId(environment.get("CLUSTER_ID", "Kubernetes")),
                system_namespace=Namespace(namespace),
                allowed=accepted_risks(environment.get(RISKS, "")),
                config_secret=environment.get("ISTHMUS_CONFIG_SECRET", ""),
            ),
            remote_kubeconfigs=environment.get("PILOT_MULTICLUSTER_KUBECONFIG_PATH", ""),
            remote_secrets_at_home=_flag(environment, "LOCAL_CLUSTER_SECRET_WATCHER"),
            stale_policy=_stale_policy(environment),
            served_names=_served_names(namespace, revision, environment.get("ISTIOD_CUSTOM_HOST", "")),
            unreachable_networks_direct=_flag(environment, "ISTHMUS_UNREACHABLE_NETWORKS_DIRECT"),
            wishes=Wishes(
                own_cluster_first=_flag(environment, "ISTHMUS_PREFER_LOCAL_CLUSTER"),
                fails_over=_flag(environment, "ISTHMUS_LOCALITY_FAILOVER"),
                hedge_after_seconds=_seconds(environment, "ISTHMUS_HEDGE_AFTER", 0.0),
            ),
            resolve_host_names=_flag(environment, "RESOLVE_HOSTNAME_GATEWAYS", default="true"),
            policies_mean_any_trust_domain=_flag(environment, "ISTHMUS_POLICIES_MEAN_ANY_TRUST_DOMAIN"),
            cluster_set=ClusterSet(
                exports=_flag(environment, "ENABLE_MCS_SERVICE_DISCOVERY"),
                hosts=_flag(environment, "ENABLE_MCS_HOST"),
                own_cluster_names=_flag(environment, "ENABLE_MCS_CLUSTER_LOCAL"),
            ),
            cluster_set_controller=_cluster_set_controller(environment),
            global_names=global_names_wanted(environment),
            cluster_aliases=_aliases(environment.get("CLUSTER_ALIASES", "")),
            node_agents=node_agents_of(environment.get("CA_TRUSTED_NODE_ACCOUNTS", "")),
            lifetimes=Lifetimes(
                default=timedelta(seconds=_seconds(environment, "DEFAULT_WORKLOAD_CERT_TTL", 24 * 3600.0)),
                longest=timedelta(seconds=_seconds(environment, "MAX_WORKLOAD_CERT_TTL", 90 * 24 * 3600.0)),
            ),
            ads_transport=_transport(environment.get("ISTHMUS_ADS_TRANSPORT", AdsTransport.NATIVE.value)),
            key_source=_key_source(environment.get("PILOT_JWT_ENABLE_REMOTE_JWKS", "hybrid")),
            outside_issuer=outside_issuer_of(environment.get("JWT_RULE", "")),
            machine_grace_seconds=_seconds(environment, "PILOT_WORKLOAD_ENTRY_GRACE_PERIOD", 10.0),
            key_fetching=KeyFetching(
                refresh_seconds=_refresh_seconds(environment),
                blocked=_blocked(environment.get("BLOCKED_CIDRS_IN_JWKS_URIS", _OWN_MACHINE)),
                roots=environment.get("ISTHMUS_JWKS_ROOTS", ""),
            ),
            injection=_injection(environment, namespace, revision),
            authority_directory=environment.get("ROOT_CA_DIR", ""),
            issuance_log=environment.get("ISTHMUS_ISSUANCE_LOG", ""),
            bundles=BundleRules(
                publishes=_flag(environment, "ISTHMUS_BUNDLE_ENDPOINT", default="true"),
                refresh_hint_seconds=_refresh_hint(environment),
                web_certificates=environment.get("ISTHMUS_BUNDLE_CERTIFICATES", ""),
                web_roots=environment.get("ISTHMUS_BUNDLE_ROOTS", ""),
            ),
            signer=signer_of(environment),
        )


def _cluster_set_controller(environment: Mapping[str, str]) -> bool:
    """Where both exports and the set's names are wanted, somebody has to make imports; if nothing is said, it is this control plane."""
    name = "ISTHMUS_CLUSTER_SET_CONTROLLER"
    if environment.get(name):
        return _flag(environment, name)
    return _flag(environment, "ENABLE_MCS_SERVICE_DISCOVERY") and _flag(environment, "ENABLE_MCS_HOST")


def _stale_policy(environment: Mapping[str, str]) -> StalePolicy:
    """hold (the default), demote, or withdraw, which demotes first; the ages are counted from the last contact."""
    name = environment.get("ISTHMUS_STALE_CLUSTERS", "hold")
    demote_after = _seconds(environment, "ISTHMUS_STALE_DEMOTE_AFTER", 60.0)
    withdraw_after = _seconds(environment, "ISTHMUS_STALE_WITHDRAW_AFTER", 600.0)
    match name:
        case "hold":
            return HOLD
        case "demote":
            return StalePolicy(demote_after=demote_after)
        case "withdraw" if withdraw_after < demote_after:
            raise BadSetting(
                "ISTHMUS_STALE_WITHDRAW_AFTER is less than ISTHMUS_STALE_DEMOTE_AFTER: demoting comes first"
            )
        case "withdraw":
            return StalePolicy(demote_after=demote_after, withdraw_after=withdraw_after)
    raise BadSetting(f"ISTHMUS_STALE_CLUSTERS: {name!r} is none of hold, demote, withdraw")


def _transport(name: str) -> AdsTransport:
    try:
        return AdsTransport(name)
    except ValueError:
        raise BadSetting(f"ISTHMUS_ADS_TRANSPORT: {name!r} is neither native nor grpc") from None


def _key_source(name: str) -> KeySource:
    """Istio's words: true is hybrid, false is the control plane alone."""
    try:
        return {"true": KeySource.HYBRID, "false": KeySource.CONTROL_PLANE}.get(name) or KeySource(name)
    except ValueError:
        raise BadSetting(
            f"PILOT_JWT_ENABLE_REMOTE_JWKS: {name!r} is none of hybrid (true), istiod (false), envoy"
        ) from None


def _refresh_seconds(environment: Mapping[str, str]) -> float:
    name = "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL"
    found = _seconds(environment, name, REFRESH_SECONDS)
    if found < 1:
        raise BadSetting(f"{name}: issuers are not asked more often than once in a second")
    return found


def _refresh_hint(environment: Mapping[str, str]) -> float:
    name = "ISTHMUS_BUNDLE_REFRESH_HINT"
    found = _seconds(environment, name, REFRESH_HINT_SECONDS)
    if found < 1:
        raise BadSetting(f"{name}: whoever follows our bundle asks once in a second at most")
    return found


def _blocked(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise BadSetting(f"BLOCKED_CIDRS_IN_JWKS_URIS: {error}") from None


def node_agents_of(text: str) -> frozenset[tuple[str, str]]:
    """From `namespace/account,…` (CA_TRUSTED_NODE_ACCOUNTS). Raises BadSetting."""
    found = set()
    for entry in filter(None, (part.strip() for part in text.split(","))):
        namespace, slash, account = entry.partition("/")
        if not slash or not namespace or not account:
            raise BadSetting(f"CA_TRUSTED_NODE_ACCOUNTS: {entry!r} is not namespace/account")
        found.add((namespace, account))
    return frozenset(found)


def outside_issuer_of(text: str) -> OutsideIssuer | None:
    """From JWT_RULE, a JWTRule of Istio's as JSON. Raises BadSetting: a rule without audiences would take anybody's tokens."""
    if not text:
        return None
    try:
        rule = msgspec.json.decode(text, type=_JwtRule)
    except msgspec.MsgspecError as error:
        raise BadSetting(f"JWT_RULE: {error}") from None
    if not rule.issuer or not rule.audiences:
        raise BadSetting("JWT_RULE: it needs an issuer and audiences")
    if bool(rule.jwks) == bool(rule.jwksUri):
        raise BadSetting("JWT_RULE: it needs either jwks or jwksUri")
    if rule.jwksUri and urlsplit(rule.jwksUri).scheme != "https":
        raise BadSetting(f"JWT_RULE: jwksUri {rule.jwksUri!r} is not https")
    return OutsideIssuer(issuer=rule.issuer, audiences=rule.audiences, jwks=rule.jwks, jwks_uri=rule.jwksUri)


def signer_of(environment: Mapping[str, str]) -> SignerRules | None:
    """From EXTERNAL_CA, K8S_SIGNER, CERT_SIGNER_DOMAIN and PILOT_CERT_PROVIDER, as istiod has them. Raises BadSetting."""
    authority, signer = environment.get("EXTERNAL_CA", ""), environment.get("K8S_SIGNER", "")
    provider = environment.get("PILOT_CERT_PROVIDER", "istiod")
    if provider != "istiod" and not provider.startswith(_SIGNED_BY):
        raise BadSetting(f"PILOT_CERT_PROVIDER: {provider!r} is neither istiod nor {_SIGNED_BY}SIGNER")
    if not authority:
        if provider != "istiod":
            raise BadSetting(f"PILOT_CERT_PROVIDER: a signer's certificates go with EXTERNAL_CA={_KUBERNETES_SIGNERS}")
        return None
    if authority != _KUBERNETES_SIGNERS:
        raise BadSetting(f"EXTERNAL_CA: {authority!r} is not {_KUBERNETES_SIGNERS}")
    if not signer:
        raise BadSetting("K8S_SIGNER: name the signer of workloads' certificates (example.com/signer)")
    if environment.get("ROOT_CA_DIR"):
        raise BadSetting("ROOT_CA_DIR: with EXTERNAL_CA no authority's key is here")
    own = provider.removeprefix(_SIGNED_BY) if provider != "istiod" else signer
    return SignerRules(workloads=signer, own=own, domain=environment.get("CERT_SIGNER_DOMAIN", ""))


class _JwtRule(msgspec.Struct):
    issuer: str = ""
    audiences: tuple[str, ...] = ()
    jwks: str = ""
    jwksUri: str = ""


def _aliases(text: str) -> dict[str, ClusterId]:
    """From `alias=cluster,…`, as istiod has it."""
    found = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        alias, sign, cluster = entry.partition("=")
        if not sign or not alias or not cluster:
            raise BadSetting(f"CLUSTER_ALIASES: {entry!r} is not alias=cluster")
        found[alias] = ClusterId(cluster)
    return found


def _served_names(namespace: str, revision: str, custom: str) -> tuple[str, ...]:
    services = ["istiod", "istiod-remote", "istio-pilot"]
    if revision != "default":
        services.append(f"istiod-{revision}")
    extra = [name.strip() for name in custom.split(",") if name.strip()]
    return tuple([f"{service}.{namespace}.svc" for service in services] + extra)


def _in_cluster(environment: Mapping[str, str]) -> ApiAddress | None:
    if environment.get("KUBECONFIG"):
        return None
    try:
        found = in_cluster(environment, SERVICE_ACCOUNT_DIRECTORY)
    except OSError as error:
        raise BadSetting(f"the service account's files cannot be read: {error}") from None
    if found is None:
        raise BadSetting("KUBECONFIG is not set: give it the path of a kubeconfig for the config cluster")
    return found


def _injection(environment: Mapping[str, str], namespace: str, revision: str) -> InjectionSettings:
    """What is put into Pods. The network is a last resort: webhook configurations name it, and namespaces are labelled with it."""
    service = "istiod" if revision == DEFAULT_REVISION else f"istiod-{revision}"
    return InjectionSettings(
        cluster=environment.get("CLUSTER_ID", "Kubernetes"),
        network=environment.get("NETWORK", ""),
        mesh=environment.get("MESH_ID", "mesh1"),
        trust_domain=environment.get("TRUST_DOMAIN", "cluster.local"),
        system_namespace=namespace,
        discovery_address=environment.get("ISTHMUS_DISCOVERY_ADDRESS", f"{service}.{namespace}.svc:15012"),
        image=environment.get("ISTHMUS_PROXY_IMAGE", f"isthmus/proxy:{__version__}"),
        revision=revision,
        native=_flag(environment, "ENABLE_NATIVE_SIDECARS", default="true"),
    )


def _trust_domain(text: str) -> TrustDomain:
    try:
        return TrustDomain.parse(text)
    except ValueError as error:
        raise BadSetting(f"TRUST_DOMAIN: {error}") from None


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    if text == "0":
        return 0.0
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    for unit, factor in units.items():
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit():
            return float(number) * factor
    raise BadSetting(f"{name}: {text!r} is not a duration such as 30s, 500ms, 2m or 24h")


def _flag(environment: Mapping[str, str], name: str, *, default: str = "false") -> bool:
    text = environment.get(name, default).lower()
    if text not in ("true", "false", "1", "0"):
        raise BadSetting(f"{name}: {text!r} is neither true nor false")
    return text in ("true", "1")
