"""The drawing: what is derived from what, from the snapshot to each proxy's resources.

    snapshot ─▶ exported ─▶ sight ─▶ seen ─▶ hosts ───────────┐
        ├─────▶ doors ─────────────────────┬─▶ shelf (block) ─┼─▶ table (scope) ─┐
        ├─────▶ told (use) ──▶ shape ─┐ ───┤                  │                  │
        ├─────▶ rule, held, identities┴─▶ part (host)         │                  ├─▶ what a proxy is given
        │         ┌────────────────────────┘                  │                  │
        │         ├─▶ outlines ─▶ plan ─▶ layouts ─┐          │                  │
        │         ├─▶ virtual host ─▶ section ─────┴─▶ frame ─┘                  │
        │         └─▶ listeners ─────────────────────┘                           │
        └─────▶ scope, inbound (proxy) ──▶ own resources ────────────────────────┘

*Use*: a service port under one policy. *Told*: its endpoints, encoded up to addresses of gateways. *Part*: all that a host adds, but endpoints.
*Shelf*: clusters and endpoints of some hosts of one namespace (a *block*), with gateways' addresses (*doors*). *Frame*: what is one for all hosts.
*Section*: the virtual hosts of one namespace in a route table. Each is computed once for all the scopes that agree on what it looked at:
endpoints mostly by network, parts by cluster. What follows from all the hosts that a scope sees is derived from these as a value (`Hosts`): scopes
that see the same share it, whyever they do. The functions are those of
`discovery` and `envoy`, given a snapshot whose reads are recorded; so a change costs what read it, and nothing here says what that is. The
meaning is `compile_view(view_for(proxy, snapshot))`: tests hold both equal.

A derivation that fails keeps its last good value: of a host that cannot be computed, proxies keep what they had, or nothing if it is new; all
else goes on. The failure is shown on the debug page (ISM0001), with what it is about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from isthmus.controlplane.derived import (
    NO_FACES,
    Block,
    Faces,
    Failure,
    Filled,
    Host,
    Hosted,
    Hosts,
    Layouts,
    Part,
    Shape,
    Stretch,
    Told,
    about,
    host_of,
    layouts_of,
    one_of,
    refilled,
    shelf_of,
)
from isthmus.discovery import naming
from isthmus.discovery.balancing import Scales
from isthmus.discovery.callers import scope_for
from isthmus.discovery.destination_rules import rule_for
from isthmus.discovery.envoy_filters import patches_for
from isthmus.discovery.headless import as_called
from isthmus.discovery.inbound import inbound_view
from isthmus.discovery.routing import extra_hosts, rules_held
from isthmus.discovery.sight import Sight, everybody_sees, exported_to, sight_of
from isthmus.discovery.spreading import Spread, Use, scales_of, spread, uses_of
from isthmus.discovery.stand_ins import NO_DOORS, Doors, stand_ins
from isthmus.discovery.telemetry import reporting_for
from isthmus.discovery.view import identities_of, upstream_of, uses_exposed, whole_view
from isthmus.discovery.visibility import exposures_for
from isthmus.envoy import name_table, requested_secrets
from isthmus.envoy.bundles import bundles
from isthmus.envoy.compile import (
    Typed,
    cluster_for,
    cluster_for_exposed,
    frame,
    frame_of_sidecar,
    names_of_clusters,
    of_proxy,
)
from isthmus.envoy.endpoints import Sketch, endpoints_of, sketch_of
from isthmus.envoy.outbound import Plan, plan
from isthmus.envoy.own_trust import own_trust
from isthmus.envoy.reporting import is_sent_somewhere, reported
from isthmus.envoy.resources import NAME_TABLE, ROUTES, Piece, Resource
from isthmus.envoy.route_tables import tables_of
from isthmus.envoy.routes import configuration, virtual_host_of
from isthmus.envoy.upstreams import has_endpoints
from isthmus.incremental.graph import Derived, Fetch, Graph, Unavailable
from isthmus.incremental.recorded import Lookup, RecordSource
from isthmus.incremental.shared import Shared, asked_for
from isthmus.model.identity import SpiffeId
from isthmus.model.names import Hostname, NetworkId, ServiceKey
from isthmus.model.routing import VirtualService
from isthmus.model.services import Service
from isthmus.model.sidecars import Elsewhere, Placement
from isthmus.model.snapshot import Snapshot, addresses_of, places_of
from isthmus.model.telemetry import Mode
from isthmus.model.topology import NetworkGateway
from isthmus.model.traffic import DestinationRule
from isthmus.model.views import (
    ExtraHost,
    InboundView,
    OutboundView,
    Proxy,
    ProxyKind,
    Scope,
    Upstream,
)


class Derivations:
    """Everything that is derived. Who observes what is for `Tables` to say."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.record: RecordSource[Snapshot] = RecordSource(self.graph, "snapshot", Snapshot)
        self.record.indexed("keys_by_host", "services", lambda service: (service.hostname,))
        self.record.indexed("keys_by_address", "endpoints", addresses_of)
        self.record.indexed("keys_by_place", "endpoints", places_of)
        self.exported: Shared[None, Scope, Mapping[ServiceKey, Service]] = Shared(
            self.graph, "exported", lambda fetch, _, scope: exported_to(scope, self._snapshot(fetch))
        )
        self.sight: Shared[None, Scope, Sight] = Shared(self.graph, "sight", self._sight)
        self.seen: Shared[None, Scope, Sight] = Shared(self.graph, "seen", self._seen)
        self.hosts: Shared[None, Scope, Hosts] = Shared(self.graph, "hosts", self._hosts)
        self.rule: Shared[ServiceKey, Scope, DestinationRule | None] = Shared(self.graph, "rule", self._rule)
        self.held: Shared[Hostname, Scope, VirtualService | None] = Shared(self.graph, "held", self._held)
        self.identities: Derived[ServiceKey, tuple[SpiffeId, ...]] = self.graph.derive(
            "identities", self._identities, early=True
        )
        self.scales: Derived[None, Scales] = self.graph.derive(
            "scales", lambda fetch, _: scales_of(self._snapshot(fetch)), early=True
        )
        self.stand_ins: Derived[NetworkId, tuple[NetworkGateway, ...]] = self.graph.derive(
            "stand-ins", lambda f, network: stand_ins(self._snapshot(f).gateways.get(network, ())), early=True
        )
        self.foreign_stand_ins: Derived[NetworkId, tuple[NetworkGateway, ...]] = self.graph.derive(
            "foreign stand-ins",
            lambda f, network: stand_ins(self._snapshot(f).foreign_gateways.get(network, ())),
            early=True,
        )
        self._stood_in: Mapping[str, Lookup] = {
            "gateways": lambda fetch, network: fetch.get(self.stand_ins, network),
            "foreign_gateways": lambda fetch, network: fetch.get(self.foreign_stand_ins, network),
        }
        self.doors: Derived[NetworkId, Doors] = self.graph.derive("doors", self._doors)
        self.told: Shared[Use, Scope, Told] = Shared(self.graph, "told", self._told)
        self.shape: Shared[Use, Scope, Shape] = Shared(
            self.graph, "shape", lambda f, use, s: self.told.of(f, use, s).shape, early=True
        )
        self.part: Shared[Host, Scope, Part] = Shared(self.graph, "part", self._part)
        self.whole: Shared[Use, Scope, Resource] = Shared(self.graph, "whole", self._whole)
        self.shelf: Shared[Block, Scope, Filled] = Shared(self.graph, "shelf", self._shelf)
        self.shelf.patched(refilled, self.told, self.doors)
        self.outlines: Shared[Host, Scope, tuple[Upstream, ...]] = Shared(
            self.graph, "outlines", self._outlines, early=True
        )
        self.plan: Shared[Hosts, Scope, Plan] = Shared(self.graph, "plan", self._plan)
        self.extra_hosts: Shared[None, Scope, tuple[ExtraHost, ...]] = Shared(self.graph, "extra hosts", self._extra)
        self.names: Shared[Hosts, Scope, Resource] = Shared(self.graph, "names", self._names)
        self.listeners: Shared[Hosts, Scope, tuple[Typed, ...]] = Shared(self.graph, "listeners", self._listeners)
        self.frame: Shared[None, Scope, tuple[Typed, ...]] = Shared(self.graph, "frame", self._frame, deferred=True)
        self.layouts: Shared[Hosts, Scope, Layouts] = Shared(self.graph, "layouts", self._layouts)
        self.virtual_host: Shared[Hosted, Scope, Piece] = Shared(
            self.graph, "virtual host", self._virtual_host, early=True
        )
        self.section: Shared[Stretch, Scope, Piece] = Shared(self.graph, "section", self._section)
        self.sections: Shared[Hosts, Scope, tuple[tuple[Piece, ...], ...]] = Shared(
            self.graph, "sections", self._sections
        )
        self.detected: Shared[Hosts, Scope, tuple[Typed, ...]] = Shared(self.graph, "detected", self._detected)
        self.cluster_names: Shared[None, Scope, frozenset[str]] = Shared(
            self.graph, "cluster names", self._cluster_names
        )
        self.scope: Derived[Proxy, Scope] = self.graph.derive("scope", self._scope)
        self.inbound: Derived[Proxy, InboundView] = self.graph.derive("inbound", self._inbound)
        self.inbound_resources: Derived[tuple[ProxyKind, InboundView, frozenset[str]], tuple[Typed, ...]] = (
            self.graph.derive("inbound resources", lambda _, key: tuple(of_proxy(*key)))
        )
        self.own: Derived[Proxy, tuple[Typed, ...]] = self.graph.derive("own resources", self._own, deferred=True)

    def failures(self) -> list[Failure]:
        """What cannot be computed now, without what only waits for that."""
        return [
            Failure(node, about(asked_for(key)), error)
            for (node, key), error in self.graph.failures.items()
            if not isinstance(error, Unavailable)
        ]

    def _snapshot(self, fetch: Fetch) -> Snapshot:
        return self.record.seen_through(fetch)

    def _sight(self, fetch: Fetch, _: None, scope: Scope) -> Sight:
        return sight_of(scope, self._snapshot(fetch), self.exported.of(fetch, None, scope))

    def _seen(self, fetch: Fetch, _: None, scope: Scope) -> Sight:
        """The services alone: most of what depends on them does not depend on rules."""
        sight = self.sight.of(fetch, None, scope)
        return Sight.of(sight.ports, (), sight.elsewhere, sight.placement)

    def _hosts(self, fetch: Fetch, _: None, scope: Scope) -> Hosts:
        """In the order of services. A network gateway's also have what it does not see itself, and passes through."""
        seen = self.seen.of(fetch, None, scope)
        snapshot = self._snapshot(fetch)
        keys: Iterable[ServiceKey] = sorted(snapshot.services) if exposures_for(scope, snapshot) else seen.ports
        by_name: dict[Hostname, list[tuple[ServiceKey, frozenset[int] | None]]] = {}
        for key in keys:
            by_name.setdefault(key.hostname, []).append((key, seen.ports.get(key)))
        return one_of(Hosts(tuple(host_of(name, tuple(services)) for name, services in by_name.items()), seen))

    def _rule(self, fetch: Fetch, key: ServiceKey, scope: Scope) -> DestinationRule | None:
        snapshot = self._snapshot(fetch)
        return rule_for(scope, snapshot.services[key], snapshot)

    def _held(self, fetch: Fetch, host: Hostname, scope: Scope) -> VirtualService | None:
        snapshot = self._snapshot(fetch)
        known = snapshot.virtual_services_by_host.get(host, ())
        if not known:
            return None
        if everybody_sees(known, snapshot):
            return rules_held(host, scope, Sight.of({}, known, Elsewhere(), Placement()), snapshot)
        return rules_held(host, scope, self.sight.of(fetch, None, scope), snapshot)

    def _identities(self, fetch: Fetch, key: ServiceKey) -> tuple[SpiffeId, ...]:
        return identities_of(key, self._snapshot(fetch))

    def _told(self, fetch: Fetch, use: Use, scope: Scope) -> Told:
        snapshot = self._snapshot(fetch)
        service = as_called(scope, snapshot.services[use.service])
        needed = service.frame_depends_on_endpoints
        if not needed:
            snapshot = self.record.seen_through(fetch, self._stood_in)
        found = spread(scope, use, snapshot, self._scales(fetch))
        encoded = endpoints_of if needed else sketch_of
        told = use.passed_through or has_endpoints(service, use.policy, scope.kind)
        return Told(
            endpoints=encoded(found.groups, use.name) if told else None,
            shape=Shape(found.ways, found.locality_weighted, found.groups if needed else ()),
        )

    def _scales(self, fetch: Fetch) -> Scales:
        return fetch.get(self.scales, None) or Scales(1)

    def _doors(self, fetch: Fetch, network: NetworkId) -> Doors:
        snapshot = self._snapshot(fetch)
        own, foreign = snapshot.gateways.get(network, ()), snapshot.foreign_gateways.get(network, ())
        return dict(zip((*stand_ins(own), *stand_ins(foreign)), (*own, *foreign), strict=True))

    def _known_doors(self, fetch: Fetch, network: NetworkId) -> Doors:
        return fetch.get(self.doors, network) or NO_DOORS

    def _whole(self, fetch: Fetch, use: Use, scope: Scope) -> Resource:
        """The endpoints of a use where it matters for more than addresses which gateways there are."""
        found = spread(scope, use, self._snapshot(fetch), self._scales(fetch))
        return endpoints_of(found.groups, use.name)

    def _part(self, fetch: Fetch, host: Host, scope: Scope) -> Part:
        """Where several services have one host, the last one's cluster of a name counts, as in the whole."""
        snapshot = self._snapshot(fetch)
        held = self.held.of(fetch, host.name, scope)
        clusters: dict[str, Resource] = {}
        secrets: dict[str, Resource] = {}
        uses: dict[str, Use] = {}
        upstreams: list[Upstream] = []
        exposed: list[tuple[int, Upstream]] = []
        for key, ports in host.services:
            service = snapshot.services[key]
            if ports is not None:
                seen = [port for port in service.ports if not ports or port.number in ports]
                for use in uses_of(service, seen, self.rule.of(fetch, key, scope), snapshot.settings.traffic_policy):
                    upstream = self._upstream(fetch, use, scope, held)
                    upstreams.append(upstream)
                    _keep(clusters, cluster_for(upstream, scope.kind))
                    secrets |= {each.name: each for each in requested_secrets.of_policy(upstream.policy)}
                    uses[use.name] = use
            if scope.kind is ProxyKind.ROUTER:
                numbers, passed = uses_exposed(scope, service, exposures_for(scope, snapshot), snapshot)
                for use in passed:
                    upstream = self._upstream(fetch, use, scope, None)
                    exposed += [(number, upstream) for number in numbers]
                    _keep(clusters, cluster_for_exposed(upstream))
                    uses[use.name] = use
        faces = Faces(tuple(upstreams), tuple(exposed))
        return Part(tuple(clusters.values()), tuple(secrets.values()), tuple(uses.values()), faces)

    def _shelf(self, fetch: Fetch, block: Block, scope: Scope) -> Filled:
        """What could never be computed is not there."""
        clusters: list[Resource] = []
        secrets: dict[str, Resource] = {}
        endpoints: list[Resource] = []
        sketches: list[Sketch] = []
        doors, entered = dict(NO_DOORS), frozenset[NetworkId]()
        for host in block.hosts:
            with suppress(Unavailable):
                part = self.part.of(fetch, host, scope)
                clusters += part.clusters
                secrets |= {each.name: each for each in part.secrets}
                for use in part.uses:
                    with suppress(Unavailable):
                        found = self.told.of(fetch, use, scope).endpoints
                        if isinstance(found, Sketch):
                            for network in found.networks - entered:
                                doors.update(self._known_doors(fetch, network))
                            entered |= found.networks
                            sketches.append(found)
                            found = found.at(doors) or self.whole.of(fetch, use, scope)
                        if found is not None:
                            endpoints.append(found)
        shelf = shelf_of(tuple(clusters), tuple(endpoints), tuple(secrets.values()))
        return Filled(shelf, doors, tuple(sketches))

    def _upstream(self, fetch: Fetch, use: Use, scope: Scope, held: VirtualService | None) -> Upstream:
        shape = self.shape.of(fetch, use, scope)
        found = Spread(shape.groups, (), shape.ways, shape.locality_weighted)
        identities = fetch.get(self.identities, use.service) or ()
        return upstream_of(scope, use, found, identities, held, self._snapshot(fetch))

    def _view(self, fetch: Fetch, scope: Scope) -> OutboundView:
        """The scope's view, without endpoints."""
        hosts = self.hosts.of(fetch, None, scope)
        found = [self._faces(fetch, host, scope) for host in hosts.all]
        upstreams = _in_order([upstream for faces in found for upstream in faces.upstreams], hosts)
        exposed = [each for faces in found for each in faces.exposed]
        exposed.sort(key=lambda each: each[1].service.key)
        sight = self.sight.of(fetch, None, scope)
        return whole_view(scope, sight, tuple(upstreams), tuple(exposed), self._snapshot(fetch))

    def _outlines(self, fetch: Fetch, host: Host, scope: Scope) -> tuple[Upstream, ...]:
        """What tells the host's services apart from others: without what rules say of them."""
        return tuple(each.outline() for each in self._faces(fetch, host, scope).upstreams if not each.subset)

    def _faces(self, fetch: Fetch, host: Host, scope: Scope) -> Faces:
        """A host that could never be computed adds nothing. What is said of all hosts together does not wait for it."""
        try:
            return self.part.of(fetch, host, scope).faces
        except Unavailable:
            return NO_FACES

    def _plan(self, fetch: Fetch, hosts: Hosts, scope: Scope) -> Plan:
        outlines = [each for host in hosts.all for each in self.outlines.of(fetch, host, scope)]
        return plan(_in_order(outlines, hosts), scope, hosts.seen.placement)

    def _extra(self, fetch: Fetch, _: None, scope: Scope) -> tuple[ExtraHost, ...]:
        return extra_hosts(scope, self.sight.of(fetch, None, scope), self._snapshot(fetch))

    def _names(self, fetch: Fetch, hosts: Hosts, scope: Scope) -> Resource:
        return name_table.encode(naming.name_table(scope, hosts.seen, self._snapshot(fetch)))

    def _listeners(self, fetch: Fetch, hosts: Hosts, scope: Scope) -> tuple[Typed, ...]:
        def whole(upstream: Upstream) -> Upstream:
            key = upstream.service.key
            return self._face(fetch, hosts.of_service[key], key, upstream.port.number, scope)

        planned = self.plan.of(fetch, hosts, scope).with_rules(whole)
        return tuple(frame_of_sidecar(planned, hosts.seen.elsewhere))

    def _frame(self, fetch: Fetch, _: None, scope: Scope) -> tuple[Typed, ...]:
        if not self._has_layouts(fetch, scope):
            view = self._view(fetch, scope)
            return tuple(frame(view, names_of_clusters(view)))
        snapshot, hosts = self._snapshot(fetch), self.hosts.of(fetch, None, scope)
        reporting = reporting_for(scope, scope.labels, Mode.CLIENT, snapshot)
        clusters = self.cluster_names.of(fetch, None, scope) if is_sent_somewhere(reporting) else frozenset[str]()
        return (
            (NAME_TABLE, self.names.of(fetch, hosts, scope)),
            *bundles(snapshot.settings.peer_authorities),
            *own_trust(snapshot.settings.own_trust),
            *reported(self.listeners.of(fetch, hosts, scope), reporting, clusters),
            *self._routes(fetch, hosts, scope),
        )

    def _has_layouts(self, fetch: Fetch, scope: Scope) -> bool:
        """Only sidecars have route tables that are as large as the mesh; and EnvoyFilters want them whole."""
        return scope.kind is ProxyKind.SIDECAR and not patches_for(scope, self._snapshot(fetch))

    def _layouts(self, fetch: Fetch, hosts: Hosts, scope: Scope) -> Layouts:
        domain = self._snapshot(fetch).settings.dns_domain
        tables = tables_of(self.plan.of(fetch, hosts, scope), scope, domain, hosts.seen.elsewhere)
        return layouts_of(tables, hosts)

    def _section(self, fetch: Fetch, stretch: Stretch, scope: Scope) -> Piece:
        """A virtual host that could never be computed is not there."""
        found = []
        for each in stretch.hosted:
            with suppress(Unavailable):
                found.append(self.virtual_host.of(fetch, each, scope))
        return Piece.together(found)

    def _sections(self, fetch: Fetch, hosts: Hosts, scope: Scope) -> tuple[tuple[Piece, ...], ...]:
        """Of each table on a port, for callers who call nobody by a name that says no namespace."""
        return tuple(
            tuple(self.section.of(fetch, each, scope) for each in layout.sections)
            for layout in self.layouts.of(fetch, hosts, scope).on_ports
        )

    def _detected(self, fetch: Fetch, hosts: Hosts, scope: Scope) -> tuple[Typed, ...]:
        return tuple(
            (ROUTES, configuration(each.name, (self.section.of(fetch, each.stretch, scope),)))
            for each in self.layouts.of(fetch, hosts, scope).detected
        )

    def _routes(self, fetch: Fetch, hosts: Hosts, scope: Scope) -> Iterator[Typed]:
        """Spliced of sections: those of the scope's own namespace are nearly all that scopes of one cluster do not share."""
        extra = self.extra_hosts.of(fetch, None, scope)
        layouts = self.layouts.of(fetch, hosts, scope).on_ports
        for layout, sections in zip(layouts, self.sections.of(fetch, hosts, scope), strict=True):
            own = list(sections)
            for at, stretch in layout.near.get(scope.namespace, {}).items() if layout.near else ():
                own[at] = self.section.of(fetch, stretch, scope)
            yield ROUTES, configuration(layout.name, (*own, *layout.remainder.encoded(extra)))
        yield from self.detected.of(fetch, hosts, scope)

    def _virtual_host(self, fetch: Fetch, hosted: Hosted, scope: Scope) -> Piece:
        return virtual_host_of(self._face(fetch, hosted.host, hosted.service, hosted.port, scope), hosted.domains)

    def _face(self, fetch: Fetch, host: Host, service: ServiceKey, port: int, scope: Scope) -> Upstream:
        return next(
            each
            for each in self.part.of(fetch, host, scope).faces.upstreams
            if each.service.key == service and each.port.number == port and not each.subset
        )

    def _cluster_names(self, fetch: Fetch, _: None, scope: Scope) -> frozenset[str]:
        found: set[str] = set()
        for host in self.hosts.of(fetch, None, scope).all:
            with suppress(Unavailable):
                found.update(use.name for use in self.part.of(fetch, host, scope).uses)
        return frozenset(found)

    def _scope(self, fetch: Fetch, proxy: Proxy) -> Scope:
        return scope_for(proxy, self._snapshot(fetch))

    def _inbound(self, fetch: Fetch, proxy: Proxy) -> InboundView:
        return inbound_view(proxy, self._snapshot(fetch))

    def _own(self, fetch: Fetch, proxy: Proxy) -> tuple[Typed, ...]:
        """Proxies that let in the same share it. Only for keys of tokens and for reports does it matter which clusters there are."""
        if proxy.scope.kind is ProxyKind.ROUTER:
            return ()
        view = fetch.get(self.inbound, proxy)
        scope = fetch.get(self.scope, proxy)
        assert view is not None, "a view is never None"
        assert scope is not None, "a scope is never None"
        asks = is_sent_somewhere(view.reporting) or any(token.jwks_uri for token in view.authorization.tokens)
        names = self.cluster_names.of(fetch, None, scope) if asks else frozenset[str]()
        return fetch.get(self.inbound_resources, (proxy.scope.kind, view, names)) or ()


def _keep(clusters: dict[str, Resource], found: Resource | None) -> None:
    """What an EnvoyFilter removes is None."""
    if found is not None:
        clusters[found.name] = found


def _in_order(upstreams: list[Upstream], hosts: Hosts) -> list[Upstream]:
    """In the order of services, which hosts with several of them interleave."""
    if hosts.are_mixed:
        upstreams.sort(key=lambda upstream: upstream.service.key)
    return upstreams
