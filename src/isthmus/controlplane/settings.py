"""What a control plane process is told. Read once, at its edge, from the environment; then handed on as a value.

The names are Istio's where Istio has one, so that a manifest written for istiod says the same thing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.model.identity import TrustDomain
from isthmus.model.names import ClusterId, MeshId, Namespace


class BadSetting(ValueError):
    """A setting that cannot be used: which one, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneSettings:
    """`kubeconfig` is a path; its current context is the config cluster.

    `remote_sync_seconds`: how long a remote cluster may hold up the first answer to proxies. `served_names` are the DNS names in the
    serving certificate. `bind` is the address that all ports listen on.
    """

    cluster: ClusterId
    mesh: MeshId
    trust_domain: TrustDomain
    kubeconfig: str
    system_namespace: Namespace
    pod_name: str
    revision: str
    bind: str
    remote_sync_seconds: float
    served_names: tuple[str, ...]
    unreachable_networks_direct: bool

    @staticmethod
    def from_environment(environment: Mapping[str, str]) -> ControlPlaneSettings:
        """Raises BadSetting for a value that cannot be used, and for a required one that is missing."""
        namespace = environment.get("POD_NAMESPACE", "istio-system")
        revision = environment.get("REVISION", "default")
        return ControlPlaneSettings(
            cluster=ClusterId(environment.get("CLUSTER_ID", "Kubernetes")),
            mesh=MeshId(environment.get("MESH_ID", "mesh1")),
            trust_domain=_trust_domain(environment.get("TRUST_DOMAIN", "cluster.local")),
            kubeconfig=_required(environment, "KUBECONFIG", "the path of a kubeconfig for the config cluster"),
            system_namespace=Namespace(namespace),
            pod_name=environment.get("POD_NAME", "istiod"),
            revision=revision,
            bind=environment.get("BIND_ADDRESS", "0.0.0.0"),
            remote_sync_seconds=_seconds(environment, "PILOT_REMOTE_CLUSTER_TIMEOUT", 30.0),
            served_names=_served_names(namespace, revision, environment.get("ISTIOD_CUSTOM_HOST", "")),
            unreachable_networks_direct=_flag(environment, "ISTHMUS_UNREACHABLE_NETWORKS_DIRECT"),
        )


def _served_names(namespace: str, revision: str, custom: str) -> tuple[str, ...]:
    services = ["istiod", "istiod-remote", "istio-pilot"]
    if revision != "default":
        services.append(f"istiod-{revision}")
    extra = [name.strip() for name in custom.split(",") if name.strip()]
    return tuple([f"{service}.{namespace}.svc" for service in services] + extra)


def _required(environment: Mapping[str, str], name: str, meaning: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise BadSetting(f"{name} is not set: give it {meaning}")
    return value


def _trust_domain(text: str) -> TrustDomain:
    try:
        return TrustDomain.parse(text)
    except ValueError as error:
        raise BadSetting(f"TRUST_DOMAIN: {error}") from None


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    if not text:
        return default
    units = {"ms": 0.001, "s": 1.0, "m": 60.0}
    for unit, factor in units.items():
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit():
            return float(number) * factor
    raise BadSetting(f"{name}: {text!r} is not a duration such as 30s, 500ms or 2m")


def _flag(environment: Mapping[str, str], name: str) -> bool:
    text = environment.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise BadSetting(f"{name}: {text!r} is neither true nor false")
    return text in ("true", "1")
