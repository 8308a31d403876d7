"""Which security rules hold for a workload: how mutual its TLS is, and which policies it asks."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.discovery.kinds import Kind
from isthmus.model.names import Namespace
from isthmus.model.origins import Origin
from isthmus.model.security import (
    Action,
    Authorization,
    Labels,
    MutualTlsMode,
    PeerAuthentication,
)
from isthmus.model.selectors import holds_for
from isthmus.model.snapshot import Snapshot
from isthmus.model.traffic import ClientTls


def mutual_tls_mode(namespace: Namespace, labels: Labels, port: int, snapshot: Snapshot) -> MutualTlsMode:
    """What `mutual_tls_rule` says."""
    return mutual_tls_rule(namespace, labels, port, snapshot)[0]


def mutual_tls_rule(
    namespace: Namespace, labels: Labels, port: int, snapshot: Snapshot
) -> tuple[MutualTlsMode, Origin | None]:
    """The narrowest rule that says something: the workload's (for the port first), its namespace's, the mesh's; else PERMISSIVE.

    Of several rules of one level the oldest counts. `port` is the workload's own number; 0 asks for ports in general.
    """
    for rule in _by_narrowness(namespace, labels, snapshot):
        for number, mode in rule.port_modes:
            if number == port and mode is not None:
                return mode, rule.origin
        if rule.mode is not None:
            return rule.mode, rule.origin
    return MutualTlsMode.PERMISSIVE, None


def port_modes(namespace: Namespace, labels: Labels, snapshot: Snapshot) -> tuple[tuple[int, MutualTlsMode], ...]:
    """The ports for which some rule says a mode of their own, with what holds there."""
    numbers = {number for rule in _by_narrowness(namespace, labels, snapshot) for number, _ in rule.port_modes}
    return tuple((number, mutual_tls_mode(namespace, labels, number, snapshot)) for number in sorted(numbers))


def takes_mutual_tls(kind: Kind, port: int, snapshot: Snapshot, tls: ClientTls | None = None) -> bool:
    """Whether callers start mutual TLS to endpoints of this kind: as a rule for the destination says (`tls`), else if a proxy is beside it,
    and no rule there turns TLS off."""
    if tls is not None:
        return tls is ClientTls.ISTIO_MUTUAL
    if not kind.meshed:
        return False
    if kind.mesh:  # Its own mesh's rules say how: none of this mesh's are about it.
        return True
    return mutual_tls_mode(kind.namespace, kind.labels, port, snapshot) is not MutualTlsMode.DISABLE


def authorization_for(namespace: Namespace, labels: Labels, snapshot: Snapshot) -> Authorization:
    """The mesh's policies and the namespace's own, where they select the workload."""
    places = {snapshot.settings.root_namespace, namespace}
    near = sorted(each for place in places for each in snapshot.authorization_policies_by_namespace.get(place, ()))
    proofs = sorted(each for place in places for each in snapshot.request_authentications_by_namespace.get(place, ()))
    policies = tuple(policy for policy in near if holds_for(policy, namespace, labels))
    named = {policy.provider for policy in policies if policy.action is Action.CUSTOM}
    return Authorization(
        policies=policies,
        tokens=tuple(rule for each in proofs if holds_for(each, namespace, labels) for rule in each.rules),
        providers=tuple(provider for provider in snapshot.settings.providers if provider.name in named),
        trust_domains=(snapshot.settings.trust_domain, *snapshot.settings.trust_domain_aliases),
        peers=snapshot.settings.peer_trust_domains,
        any_trust_domain=snapshot.settings.policies_mean_any_trust_domain,
        paths=snapshot.settings.paths,
    )


def _by_narrowness(namespace: Namespace, labels: Labels, snapshot: Snapshot) -> Iterator[PeerAuthentication]:
    """At most one for each level. A selector in the root namespace selects workloads of every namespace."""
    root = snapshot.settings.root_namespace
    own = snapshot.peer_authentications_by_namespace.get(namespace, ())
    of_root = snapshot.peer_authentications_by_namespace.get(root, ())
    if not own and not of_root:
        return
    chosen = [rule for rule in own if rule.selector and set(rule.selector) <= set(labels)]
    whole = [rule for rule in own if not rule.selector and namespace != root]
    mesh = [rule for rule in of_root if not rule.selector]
    for level in (chosen, whole, mesh):
        if level:
            yield min(level)
