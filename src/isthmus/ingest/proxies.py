"""What a node claims about itself becomes a Proxy, or a list of what is wrong with the claims.

The claims are checked against the caller's credentials elsewhere (controlplane.admission); here they are only understood.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace

from isthmus.api.core import Node, Pod
from isthmus.ingest.inputs import Objects
from isthmus.ingest.workloads import locality_of
from isthmus.model.addresses import is_ip
from isthmus.model.identity import SpiffeId
from isthmus.model.names import ClusterId, Namespace, NetworkId
from isthmus.model.proxy_config import GatewayTopology
from isthmus.model.proxy_config_words import read
from isthmus.model.topology import Locality
from isthmus.model.views import Proxy, ProxyKind, Scope

_ISTIOS_OWN = "ENVOY_PROMETHEUS_PORT"
"""Every agent of Istio's says this of its Envoy, and no other agent does."""


class BadClaims(ValueError):
    """A node that does not say who it is; the text says what is missing or wrong."""


def proxy_of(node_id: str, metadata: Mapping[str, object], locality: Locality, identity: SpiffeId | None) -> Proxy:
    """From `TYPE~IP~NAME.NAMESPACE~DOMAIN` and Istio's metadata keys. Raises BadClaims."""
    kind, ip, _name, namespace = _parse_id(node_id)
    if kind is ProxyKind.SIDECAR and _text(metadata, "GENERATOR") == "grpc":
        kind = ProxyKind.PROXYLESS
    claimed_namespace = _text(metadata, "NAMESPACE") or namespace
    ips = tuple(part for part in _text(metadata, "INSTANCE_IPS").split(",") if part) or (ip,)
    claimed = _labels(metadata)
    views = sorted(part.strip() for part in _text(metadata, "REQUESTED_NETWORK_VIEW").split(",") if part.strip())
    captures_names = _text(metadata, "DNS_CAPTURE").lower() in ("true", "1")
    scope = Scope(
        kind=kind,
        cluster=ClusterId(_text(metadata, "CLUSTER_ID") or "Kubernetes"),
        network=NetworkId(_text(metadata, "NETWORK")),
        namespace=Namespace(claimed_namespace),
        locality=locality,
        network_view=tuple(NetworkId(view) for view in views),
        labels=claimed if kind is ProxyKind.ROUTER else (),
        ip_families=_families(ips),
        captures_names=captures_names,
        trusts_in_one_bundle=_ISTIOS_OWN in metadata,
        topology=_topology(metadata) if kind is ProxyKind.ROUTER else None,
    )
    return Proxy(
        id=node_id,
        scope=scope,
        ips=ips,
        labels=claimed,
        service_account=_text(metadata, "SERVICE_ACCOUNT"),
        identity=identity,
        dns_capture=captures_names,
        claims=tuple(sorted((key, value) for key, value in metadata.items() if isinstance(value, str))),
        node=_text(metadata, "NODE_NAME"),
    )


def placed(proxy: Proxy, objects: Objects) -> Proxy:
    """What the proxy's cluster knows better than its agent: the labels and addresses that its Pod has now, and where its Pod or its Node is.

    Of the addresses that it claims, those that are not its Pod's count for nothing: they would show it what is meant for another workload.
    """
    name, _, namespace = proxy.id.split("~")[2].rpartition(".")
    pod = objects.get("Pod", {}).get((namespace, name))
    if not isinstance(pod, Pod):
        return proxy
    own = tuple(sorted(pod.metadata.labels.items()))
    scope = replace(proxy.scope, labels=own if proxy.scope.kind is ProxyKind.ROUTER else ())
    node = objects.get("Node", {}).get(("", pod.spec.node_name))
    where = locality_of(pod, node if isinstance(node, Node) else None)
    scope = replace(scope, locality=where if str(where) else scope.locality)
    ips = _own_addresses(proxy.ips, pod)
    scope = replace(scope, ip_families=_families(ips))
    return replace(proxy, labels=own, scope=scope, ips=ips, node=pod.spec.node_name)


def _own_addresses(claimed: tuple[str, ...], pod: Pod) -> tuple[str, ...]:
    """The Pod's, in the order of the claims as far as they agree. A Pod that has none yet, or none that can be read, cannot contradict."""
    own = tuple(dict.fromkeys(filter(is_ip, (pod.status.pod_i_p, *(each.ip for each in pod.status.pod_i_ps)))))
    return (tuple(ip for ip in claimed if ip in own) or own) if own else claimed


def _parse_id(node_id: str) -> tuple[ProxyKind, str, str, str]:
    parts = node_id.split("~")
    if len(parts) != 4:
        raise BadClaims(f"node id {node_id!r} is not TYPE~IP~NAME.NAMESPACE~DOMAIN")
    kinds = {kind.value: kind for kind in (ProxyKind.SIDECAR, ProxyKind.ROUTER)}
    if parts[0] not in kinds:
        raise BadClaims(f"node id {node_id!r} has type {parts[0]!r}: use one of {', '.join(sorted(kinds))}")
    name, dot, namespace = parts[2].rpartition(".")
    if not dot or not name or not namespace:
        raise BadClaims(f"node id {node_id!r} does not name its Pod as NAME.NAMESPACE")
    return kinds[parts[0]], parts[1], name, namespace


def _text(metadata: Mapping[str, object], key: str) -> str:
    value = metadata.get(key, "")
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        raise BadClaims(f"node metadata {key} is not a string")
    return value


def _topology(metadata: Mapping[str, object]) -> GatewayTopology | None:
    """Part of the ProxyConfig that the proxy was started with."""
    config = metadata.get("PROXY_CONFIG", {})
    if not isinstance(config, Mapping):
        raise BadClaims("node metadata PROXY_CONFIG is not an object")
    return read({"gatewayTopology": config.get("gatewayTopology")})[0].topology


def _labels(metadata: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    claimed = metadata.get("LABELS", {})
    if not isinstance(claimed, Mapping):
        raise BadClaims("node metadata LABELS is not an object")
    return tuple(sorted((str(key), str(value)) for key, value in claimed.items()))


def _families(ips: tuple[str, ...]) -> tuple[int, ...]:
    try:
        return tuple(sorted({ipaddress.ip_address(ip).version for ip in ips}))
    except ValueError as error:
        raise BadClaims(f"node has a bad address: {error}") from None
