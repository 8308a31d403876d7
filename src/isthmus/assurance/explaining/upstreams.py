"""An upstream as it is explained: each address with its share and what it stands for, and each endpoint that is left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from isthmus.assurance.explaining.edits import edit_for
from isthmus.assurance.traffic.balancing import Chosen
from isthmus.assurance.traffic.walk import Share
from isthmus.discovery.spreading import scale_for
from isthmus.model.snapshot import Snapshot
from isthmus.model.views import Destination, LeftOut, Scope, Upstream
from isthmus.model.workloads import Endpoint

Object = dict[str, Any]


def explained_share(share: Share, upstream: Upstream | None, scope: Scope, snapshot: Snapshot) -> Object:
    """What the walk found in the configuration, joined with the view's upstream of the same name."""
    answer: Object = {"cluster": share.upstream, "percent": round(share.percent, 2), "type": share.kind}
    if share.rule:
        answer["rule"] = share.rule
    if share.sni:
        answer["sni"] = share.sni
    if upstream is None:
        return answer | {
            "destinations": [_bare(chosen, share) for chosen in share.endpoints],
            "leftOut": [],
        }
    return answer | {
        "service": f"{upstream.service.namespace}/{upstream.service.name}",
        "declaredIn": list(upstream.service.declared_in),
        "destinations": [_chosen(chosen, share, upstream, snapshot) for chosen in share.endpoints],
        "leftOut": [left_out(left, upstream, scope, snapshot) for left in upstream.left_out],
    }


def left_out(left: LeftOut, upstream: Upstream, scope: Scope, snapshot: Snapshot) -> Object:
    """The endpoint, the reason, and the edit that would bring it back."""
    return workload_of(left.endpoint) | {
        "reason": left.why.reason.value,
        "detail": left.why.detail,
        "edit": edit_for(left, upstream, scope, snapshot),
    }


def workload_of(endpoint: Endpoint) -> Object:
    """How an endpoint is named in answers; `workload` is empty for an address that a ServiceEntry names."""
    workload = endpoint.workload
    return {
        "address": endpoint.ip,
        "workload": workload.name and f"{workload.namespace}/{workload.name}",
        "cluster": endpoint.cluster,
        "network": endpoint.network,
    }


def destinations_at(upstream: Upstream, chosen: Chosen) -> list[Destination]:
    """The view's destinations that became this one address. A gateway may be listed in several localities."""
    return [
        destination
        for group in upstream.groups
        if group.priority == chosen.priority
        for destination in group.destinations
        if (destination.address, destination.port) == (chosen.address, chosen.port)
    ]


def starts_tls(share: Share, upstream: Upstream | None) -> bool:
    """Whether the proxy starts TLS with a server beyond the mesh, as a rule says: no mutual TLS of the mesh's."""
    return bool(share.sni) and upstream is not None and upstream.policy.origination is not None


def _bare(chosen: Chosen, share: Share) -> Object:
    return {
        "address": f"{chosen.address}:{chosen.port}" if chosen.port else chosen.address,
        "percent": round(chosen.percent, 2),
        "ofAll": round(chosen.percent * share.percent / 100, 2),
        "priority": chosen.priority,
        "locality": chosen.locality,
        "weight": chosen.weight,
        "healthy": chosen.healthy,
    }


def _chosen(chosen: Chosen, share: Share, upstream: Upstream, snapshot: Snapshot) -> Object:
    found = destinations_at(upstream, chosen)
    behind = [endpoint for destination in found for endpoint in destination.stands_for]
    gateway = found[0].through if found else None
    started = starts_tls(share, upstream)
    mutual = chosen.socket == "tlsMode-istio" or (bool(share.sni) and not chosen.socket and not started)
    return _bare(chosen, share) | {
        "arithmetic": _arithmetic(chosen, behind, scale=scale_for(upstream.service, snapshot)),
        "mutualTLS": mutual,
        **({"startsTLS": share.sni} if started else {}),
        **({"passesTLS": True} if upstream.port.protocol.is_tls and not (mutual or started) else {}),
        "way": f"through the gateway of network {gateway.network}" if gateway else "direct",
        "standsFor": [workload_of(endpoint) for endpoint in behind],
    }


def _arithmetic(chosen: Chosen, behind: Iterable[Endpoint], *, scale: int) -> str:
    """How the weight came about: every endpoint counts the same, through however many gateways it is reached."""
    weights = [endpoint.weight for endpoint in behind]
    whole = sum(weights) * scale
    if not weights or not chosen.weight or whole % chosen.weight:
        return f"weight {chosen.weight}"
    endpoints = "1 endpoint" if len(weights) == 1 else f"{len(weights)} endpoints"
    if any(weight != 1 for weight in weights):
        endpoints += f" of weight {sum(weights)} together"
    gateways = whole // chosen.weight
    steps = endpoints + (f" × {scale}" if scale > 1 else "") + (f" ÷ {gateways} gateways" if gateways > 1 else "")
    return f"weight {chosen.weight}: {steps}"
