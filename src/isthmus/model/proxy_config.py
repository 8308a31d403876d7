"""ProxyConfig: how a proxy is run, as far as it is not told later: threads, drains, what it counts, what it says of itself.

The same words are in MeshConfig (`defaultConfig`), in ProxyConfig objects, in a Pod's annotation and in what an agent is told
(`PROXY_CONFIG`). A narrower word takes the place of a wider one, field by field; `proxyMetadata` and `runtimeValues` are merged by key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields, replace
from enum import StrEnum

from isthmus.model.names import Namespace
from isthmus.model.values import dataclass

Texts = tuple[tuple[str, str], ...]
"""A mapping of texts, sorted by key."""


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class StatisticsKept:
    """Names of Envoy's own statistics that are kept beside those that always are."""

    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()


class ClientCertificates(StrEnum):
    """What a gateway tells workloads of its callers' certificates (x-forwarded-client-cert)."""

    SANITIZE = "SANITIZE"
    FORWARD_ONLY = "FORWARD_ONLY"
    APPEND_FORWARD = "APPEND_FORWARD"
    SANITIZE_SET = "SANITIZE_SET"
    ALWAYS_FORWARD_ONLY = "ALWAYS_FORWARD_ONLY"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class GatewayTopology:
    """What stands before a gateway: how many proxies there are whose `x-forwarded-for` is believed, and whether they say in PROXY
    protocol who is calling."""

    trusted_proxies: int = 0
    client_certificates: ClientCertificates = ClientCertificates.SANITIZE_SET
    proxy_protocol: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """What is None or empty is left to the wider word."""

    concurrency: int | None = None
    """Envoy's threads; 0 is one for each core."""
    discovery_address: str = ""
    drain_seconds: float | None = None
    """How long connections of a listener that changes may go on."""
    termination_drain_seconds: float | None = None
    """How long connections may go on when the proxy ends."""
    hold_application: bool | None = None
    metadata: Texts = ()
    runtime: Texts = ()
    statistics: StatisticsKept | None = None
    statsd: str = ""
    flush_milliseconds: int | None = None
    flush_kilobytes: int | None = None
    topology: GatewayTopology | None = None

    def over(self, wider: ProxyConfig) -> ProxyConfig:
        """This one, where it says something; else the wider one."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        changed = {name: value for name, value in said.items() if value not in (None, "", ())}
        for name in ("metadata", "runtime"):
            changed[name] = tuple(sorted({**dict(getattr(wider, name)), **dict(said[name])}.items()))
        return replace(wider, **changed)


NOTHING_SAID = ProxyConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfigRule:
    """A ProxyConfig object. An empty `selector` holds for the namespace; in the root namespace for the mesh."""

    created: str
    namespace: Namespace
    name: str
    selector: Texts = ()
    config: ProxyConfig = NOTHING_SAID


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfigs:
    """All that a mesh says of it. `rules` are sorted, the oldest first."""

    default: ProxyConfig = NOTHING_SAID
    rules: tuple[ProxyConfigRule, ...] = field(default=())
    root_namespace: Namespace = Namespace("istio-system")
    merges_metrics: bool = True
    """Whether agents answer for the workload's metrics, too (MeshConfig's `enablePrometheusMerge`)."""

    def for_workload(self, namespace: str, labels: Mapping[str, str], own: ProxyConfig) -> ProxyConfig:
        """In Istio's order, the widest first: MeshConfig; the root namespace's object without selector; the namespace's; what the Pod says
        itself (`own`); the namespace's object that selects it. Of several objects of one level the oldest counts.
        """
        here = [rule for rule in self.rules if rule.namespace == namespace]
        whole = [rule for rule in here if not rule.selector and namespace != self.root_namespace]
        chosen = [rule for rule in here if rule.selector and set(rule.selector) <= set(labels.items())]
        mesh = [rule for rule in self.rules if rule.namespace == self.root_namespace and not rule.selector]
        found = self.default
        for level in (mesh, whole):
            found = level[0].config.over(found) if level else found
        found = own.over(found)
        return chosen[0].config.over(found) if chosen else found
