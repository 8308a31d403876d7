"""What the control plane would leave out of an object that is right by all other rules: what Envoy refuses costs its own rule, host or policy.

The readers that serve proxies are asked, so that what is told before an object is written is what happens once it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from isthmus.api.registry import UndecodableObject, decode, kind_of
from isthmus.assurance.catalogue import validation as codes
from isthmus.assurance.validation.problems import Problem
from isthmus.assurance.validation.terms import Object
from isthmus.ingest.destination_rules import destination_rule_of
from isthmus.ingest.gateways import servers_of
from isthmus.ingest.policies import authorization_policy_of
from isthmus.ingest.service_entries import Where, service_entry_of
from isthmus.ingest.sidecars import sidecar_of
from isthmus.ingest.telemetry import telemetry_of
from isthmus.ingest.virtual_services import virtual_service_of
from isthmus.model.identity import TrustDomain
from isthmus.model.issues import Issue, Severity
from isthmus.model.names import UNDECLARED_NETWORK, ClusterId
from isthmus.model.topology import ClusterNetwork

_HERE, _DOMAIN = ClusterId(""), "cluster.local"
_WHERE = Where(
    cluster=_HERE, network=ClusterNetwork(default=UNDECLARED_NETWORK), trust_domain=TrustDomain.parse(_DOMAIN)
)
_READERS: dict[tuple[str, str], Callable[[Any], Sequence[Issue]]] = {
    ("networking.istio.io", "VirtualService"): lambda obj: virtual_service_of(obj, _HERE, _DOMAIN)[1],
    ("networking.istio.io", "DestinationRule"): lambda obj: destination_rule_of(obj, _HERE, _DOMAIN)[1],
    ("networking.istio.io", "Gateway"): lambda obj: servers_of(obj, _HERE)[1],
    ("networking.istio.io", "ServiceEntry"): lambda obj: service_entry_of(obj, _WHERE)[1],
    ("networking.istio.io", "Sidecar"): lambda obj: sidecar_of(obj, _HERE, _DOMAIN)[1],
    ("security.istio.io", "AuthorizationPolicy"): lambda obj: authorization_policy_of(obj, _HERE)[1],
    ("telemetry.istio.io", "Telemetry"): lambda obj: telemetry_of(obj, _HERE)[1],
}


def left_out(item: Object) -> Iterator[Problem]:
    """Of an object whose shape is right."""
    api_version = str(item.get("apiVersion") or "")
    read = _READERS.get((api_version.rpartition("/")[0], str(item.get("kind"))))
    kind = kind_of(api_version, str(item.get("kind")))
    if read is None or kind is None:
        return
    try:
        issues = read(decode(kind, item))
    except UndecodableObject as error:
        yield Problem(codes.LEFT_OUT, "spec", f"cannot be read: {error}")
        return
    for issue in issues:
        if issue.severity is Severity.ERROR:
            yield Problem(codes.LEFT_OUT, issue.field, issue.what, issue.fix)
