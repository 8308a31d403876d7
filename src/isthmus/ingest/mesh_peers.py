"""MeshPeers become values. An entry that cannot be read lets nobody do anything; the others count. A peer that cannot be told apart from this
mesh, or from an older peer, is left out as a whole: its identities would be somebody else's. Nobody of its trust domain is let in then, so that
a mistake in a peer opens nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence

from isthmus.api import federation as api
from isthmus.model.addresses import is_port
from isthmus.model.federation import ALL, ClosedPeer, Export, Identities, Import, MeshPeer, is_label
from isthmus.model.identity import SpiffeId, TrustDomain
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId, MeshId, Namespace, NetworkId
from isthmus.model.snapshot import MeshSettings
from isthmus.model.topology import NetworkGateway

_USUAL_ACCOUNT = "istiod"


class _Wrong(ValueError):
    """A field that leaves nothing of the peer: which, why, and what to do."""

    def __init__(self, field: str, what: str, fix: str) -> None:
        super().__init__(what)
        self.field, self.fix = field, fix


def mesh_peer_of(
    obj: api.MeshPeer, cluster: ClusterId, settings: MeshSettings
) -> tuple[MeshPeer | ClosedPeer | None, tuple[Issue, ...]]:
    """Closed is one that cannot be told apart from this mesh, or that nobody could prove to be; None, if no trust domain is told either."""
    spec, issues = obj.spec, _Issues(obj.metadata.name, cluster)
    closed = None
    try:
        trust_domain = _trust_domain(spec.trust_domain, settings)
        closed = ClosedPeer(name=obj.metadata.name, trust_domain=trust_domain)
        mesh = _mesh(spec.mesh, settings)
        identity = _identity(spec.identity, trust_domain, settings)
    except _Wrong as wrong:
        issues.add("ISM0901", Severity.ERROR, f"the peer is left out: {wrong}", wrong.fix, wrong.field)
        return closed, issues.found
    return (
        MeshPeer(
            created=obj.metadata.creation_timestamp,
            name=obj.metadata.name,
            mesh=mesh,
            trust_domain=trust_domain,
            identity=identity,
            control_planes=tuple(_control_planes(spec.control_planes, issues)),
            gateways=tuple(_gateways(spec.gateways, issues)),
            exports=tuple(_exports(spec.exports.services, issues)),
            identities=tuple(issues.identities(spec.exports.identities, "spec.exports.identities")),
            imports=tuple(_imports(spec.imports.services, issues)),
        ),
        issues.found,
    )


def told_apart(
    peers: Sequence[MeshPeer | ClosedPeer], cluster: ClusterId, trusted: Iterable[TrustDomain]
) -> tuple[tuple[MeshPeer, ...], tuple[ClosedPeer, ...], tuple[Issue, ...]]:
    """The oldest first; of two with one mesh id, or one trust domain, the older. One that nobody vouches for gets and gives nothing.

    The second are left out, and no peer that counts is for their trust domains.
    """
    known: dict[object, MeshPeer] = {}
    found: list[MeshPeer] = []
    closed = [each for each in peers if isinstance(each, ClosedPeer)]
    issues: list[Issue] = []
    for peer in sorted(each for each in peers if isinstance(each, MeshPeer)):
        mine = _Issues(peer.name, cluster)
        other = known.get(peer.mesh) or known.get(peer.trust_domain)
        if other is not None:
            shared = f"mesh {peer.mesh}" if other.mesh == peer.mesh else f"trust domain {peer.trust_domain}"
            what = f"the peer is left out: MeshPeer {other.name} is for {shared}, too"
            mine.add("ISM0901", Severity.ERROR, what, "keep one of them: meshes are told apart by both")
            closed.append(ClosedPeer(name=peer.name, trust_domain=peer.trust_domain))
        else:
            known[peer.mesh] = known[peer.trust_domain] = peer
            found.append(peer)
            if peer.trust_domain not in trusted:
                what = f"there is no trust bundle for {peer.trust_domain}: nothing is imported or exported"
                fix = f"isthmus trust import BUNDLE --trust-domain {peer.trust_domain}"
                mine.add("ISM0902", Severity.WARNING, what, fix, "spec.trustDomain")
        issues += mine.found
    return tuple(found), tuple(each for each in sorted(closed) if each.trust_domain not in known), tuple(issues)


class _Issues:
    """What is wrong with one object."""

    def __init__(self, name: str, cluster: ClusterId) -> None:
        self._subject = Subject(cluster, "MeshPeer", "", name)
        self.found: tuple[Issue, ...] = ()

    def add(self, code: str, severity: Severity, what: str, fix: str, field: str = "") -> None:
        issue = Issue(subject=self._subject, code=code, severity=severity, what=what, fix=fix, field=field)
        self.found = (*self.found, issue)

    def entry(self, what: str, fix: str, field: str) -> None:
        """One that has no effect."""
        self.add("ISM0903", Severity.ERROR, f"{what}: the entry has no effect", fix, field)

    def identities(self, texts: Iterable[str], field: str) -> Iterator[Identities]:
        for index, text in enumerate(texts):
            try:
                yield Identities.parse(text)
            except ValueError as error:
                self.entry(
                    str(error), "write a namespace and a service account, such as sample/client", f"{field}[{index}]"
                )


def _mesh(text: str, settings: MeshSettings) -> MeshId:
    if not is_label(text):
        raise _Wrong("spec.mesh", f"{text!r} cannot be part of a DNS name", "use lower-case letters, digits and '-'")
    if text == settings.mesh:
        raise _Wrong("spec.mesh", f"{text} is this mesh's own id", "name the other mesh by its id (MESH_ID there)")
    return MeshId(text)


def _trust_domain(text: str, settings: MeshSettings) -> TrustDomain:
    try:
        found = TrustDomain.parse(text)
    except ValueError as error:
        raise _Wrong("spec.trustDomain", str(error), "write it as the other mesh has it (TRUST_DOMAIN there)") from None
    if found in (settings.trust_domain, *settings.trust_domain_aliases):
        why = f"{found} is this mesh's own trust domain, so the two meshes' identities cannot be told apart"
        raise _Wrong(
            "spec.trustDomain", why, "federate meshes of different trust domains; one trust domain is one mesh"
        )
    return found


def _identity(text: str, trust_domain: TrustDomain, settings: MeshSettings) -> SpiffeId:
    if not text:
        return SpiffeId.of_service_account(trust_domain, settings.root_namespace, _USUAL_ACCOUNT)
    try:
        found = SpiffeId.parse(text)
    except ValueError as error:
        raise _Wrong("spec.identity", str(error), "write spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT") from None
    if found.trust_domain != trust_domain or not found.path:
        why = f"{found} is not an identity of trust domain {trust_domain}"
        raise _Wrong("spec.identity", why, f"write one that begins with spiffe://{trust_domain}/")
    return found


def _control_planes(texts: Iterable[str], issues: _Issues) -> Iterator[str]:
    for index, text in enumerate(texts):
        host, _, port = text.rpartition(":")
        if host and is_port(port):
            yield text
        else:
            issues.entry(
                f"{text!r} is not HOST:PORT", "write one such as peers.b.example:15018", f"spec.controlPlanes[{index}]"
            )


def _gateways(said: Iterable[api.PeerGateway], issues: _Issues) -> Iterator[NetworkGateway]:
    for index, each in enumerate(said):
        try:
            address = str(ipaddress.ip_address(each.address))
        except ValueError:
            issues.entry(f"{each.address!r} is not an IP address", "write one", f"spec.gateways[{index}].address")
            continue
        network = NetworkId(each.network)
        yield NetworkGateway(address=address, port=each.port, network=network, cluster=ClusterId(""))


def _exports(said: Iterable[api.ExportedService], issues: _Issues) -> Iterator[Export]:
    for index, each in enumerate(said):
        field = f"spec.exports.services[{index}]"
        if _is_named(each.namespace, each.name, field, issues):
            callers = tuple(issues.identities(each.callers, f"{field}.callers"))
            if not callers:
                issues.entry(
                    "no caller is named", "list the peer's service accounts that may call, or *", f"{field}.callers"
                )
                continue
            yield Export(namespace=Namespace(each.namespace), name=each.name, callers=callers)


def _imports(said: Iterable[api.ImportedService], issues: _Issues) -> Iterator[Import]:
    for index, each in enumerate(said):
        field = f"spec.imports.services[{index}]"
        if not _is_named(each.namespace, each.name, field, issues):
            continue
        wrong = [to for to in each.to if to != ALL and not is_label(to)]
        if wrong or not each.to:
            what = f"{wrong[0]!r} is not a namespace" if wrong else "no namespace is named"
            issues.entry(what, "list the namespaces here that may know of it, or *", f"{field}.to")
            continue
        yield Import(namespace=Namespace(each.namespace), name=each.name, to=tuple(sorted(set(each.to))))


def _is_named(namespace: str, name: str, field: str, issues: _Issues) -> bool:
    if is_label(namespace) and (name == ALL or is_label(name)):
        return True
    issues.entry(f"{namespace}/{name} names no service", "write namespace and name; the name may be *", field)
    return False
