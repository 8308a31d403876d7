"""Ingress: what a gateway's proxies listen for, and where it leads.

Servers of all Gateways that choose a proxy are merged by the port on which it listens: plain HTTP shares one table of hosts; TLS is told
apart by SNI, and who claimed a name first keeps it; TCP has room for one. The first server of a port, by age, decides which of these it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from isthmus.discovery.routing import connection_clusters, connection_treatment, http_routes
from isthmus.discovery.visibility import is_exported
from isthmus.model.gateways import GatewayChain, GatewayPort, HostTable, Server, TlsMode, Traffic
from isthmus.model.names import covers
from isthmus.model.proxy_config import GatewayTopology
from isthmus.model.routing import ConnectionMatch, ConnectionRule, VirtualService
from isthmus.model.snapshot import Snapshot
from isthmus.model.views import ProxyKind, Scope


def gateway_ports(scope: Scope, snapshot: Snapshot) -> tuple[GatewayPort, ...]:
    """Every port that some Gateway opens on this scope's proxies, sorted."""
    if scope.kind is not ProxyKind.ROUTER or not snapshot.servers:
        return ()
    labels = dict(scope.labels)
    chosen = [
        server
        for server in snapshot.servers
        if server.within in ("", scope.namespace) and all(labels.get(k) == v for k, v in server.selector)
    ]
    if not chosen:
        return ()
    translated = _target_ports(scope, snapshot)
    by_port: dict[tuple[int, str], list[Server]] = defaultdict(list)
    for server in chosen:
        for number in sorted(translated.get(server.port, {server.port})):
            by_port[number, server.bind].append(server)
    rules = _rules(scope, snapshot)
    return tuple(
        replace(_port(number, servers, rules, scope, snapshot), bind=bind)
        for (number, bind), servers in sorted(by_port.items())
    )


def topology_for(scope: Scope, snapshot: Snapshot) -> GatewayTopology:
    """What the gateway's own configuration says is in front of it, else what MeshConfig says of all."""
    if scope.kind is not ProxyKind.ROUTER:
        return GatewayTopology()
    return scope.topology or snapshot.settings.proxy_config.topology or GatewayTopology()


def _target_ports(scope: Scope, snapshot: Snapshot) -> dict[int, set[int]]:
    """The port numbers of the gateway's own services, with those that its proxies have for them."""
    found: dict[int, set[int]] = defaultdict(set)
    for key in sorted(snapshot.keys_by_place.get((scope.cluster, scope.namespace), ())):
        own = [
            e
            for e in snapshot.endpoints.get(key, ())
            if e.cluster == scope.cluster and e.workload.namespace == scope.namespace
        ]
        for endpoint in own:
            if endpoint.workload.labels == scope.labels:
                for port in snapshot.services[key].ports:
                    target = endpoint.port_named(port.name)
                    if target is not None:
                        found[port.number].add(target)
    return found


def _rules(scope: Scope, snapshot: Snapshot) -> list[VirtualService]:
    default = snapshot.settings.virtual_service_export_to
    return [
        rule
        for rule in snapshot.virtual_services
        if is_exported(rule.export_to or default, rule.namespace, scope.namespace)
    ]


def _port(
    number: int, servers: Sequence[Server], rules: Sequence[VirtualService], scope: Scope, snapshot: Snapshot
) -> GatewayPort:
    kind = servers[0].kind
    alike = [server for server in servers if server.kind is kind]
    if kind is Traffic.HTTP:
        hosts = _merged(
            table for server in alike for table in _own(server, alike, _hosts(server, rules, scope, snapshot))
        )
        table = f"http.{number}{_at(servers[0])}"
        return GatewayPort(number=number, chains=(GatewayChain(table=table, hosts=hosts),))
    if kind is Traffic.TCP:
        return GatewayPort(number=number, chains=tuple(_connections(alike[0], rules, scope, snapshot)))
    claimed: set[str] = set()
    chains = []
    for server in alike:
        for chain in _tls_chains(server, rules, scope, snapshot):
            free = tuple(name for name in chain.sni_hosts or ("",) if name not in claimed)
            claimed |= set(free)
            if free:
                chains.append(replace(chain, sni_hosts=tuple(name for name in free if name)))
    return GatewayPort(number=number, chains=tuple(chains))


def _at(server: Server) -> str:
    """The end of a table's name, where its server is bound to an address."""
    return f".{server.bind}" if server.bind else ""


def _tls_chains(
    server: Server, rules: Sequence[VirtualService], scope: Scope, snapshot: Snapshot
) -> Iterator[GatewayChain]:
    tls = server.tls
    if tls is None or tls.mode is TlsMode.PASSTHROUGH:
        yield from (replace(each, passes_tls_through=True) for each in _connections(server, rules, scope, snapshot))
        return
    names = () if any(host.host == "*" for host in server.hosts) else tuple(host.host for host in server.hosts)
    if server.traffic is Traffic.HTTPS:
        table = f"https.{server.port}.{server.port_name}.{server.gateway}.{server.namespace}{_at(server)}"
        hosts = _merged(_hosts(server, rules, scope, snapshot))
        yield GatewayChain(sni_hosts=names, tls=tls, table=table, hosts=hosts)
        return
    for chain in _connections(server, rules, scope, snapshot):
        yield replace(chain, sni_hosts=chain.sni_hosts or names, tls=tls)


def _hosts(server: Server, rules: Sequence[VirtualService], scope: Scope, snapshot: Snapshot) -> Iterator[HostTable]:
    """One for each host that a VirtualService and the server share. Without any, callers learn that there is nothing."""
    for rule in rules:
        if not rule.rules or not rule.is_for(server.bound_by):
            continue
        for host in dict.fromkeys(_shared(server, rule)):
            routes = http_routes(rule, scope, server.port, snapshot, server.bound_by)
            yield HostTable(host=host, port=server.port, routes=routes, redirect_to_https=server.redirect_to_https)
    if server.redirect_to_https:
        for each in server.hosts:
            yield HostTable(host=each.host, port=server.port, routes=(), redirect_to_https=True)


def _own(server: Server, alike: Sequence[Server], tables: Iterator[HostTable]) -> Iterator[HostTable]:
    """Of a server's hosts those that no other server of the port names more narrowly (listener isolation of Gateway API).

    A server without any routes for its host still answers for it: 404, instead of what a wider server would say.
    """
    if not server.is_isolated:
        yield from tables
        return
    host = server.hosts[0].host
    narrower = [other.hosts[0].host for other in alike if other.is_isolated and _is_within(other.hosts[0].host, host)]
    for table in tables:
        if not any(covers(each, table.host) for each in narrower):
            yield table
    if any(other.is_isolated and _is_within(host, other.hosts[0].host) for other in alike):
        yield HostTable(host=host, port=server.port, routes=())


def _is_within(host: str, other: str) -> bool:
    return host != other and covers(other, host)


def _shared(server: Server, rule: VirtualService) -> Iterator[str]:
    for host in rule.hosts:
        for each in server.hosts:
            common = each.shared(rule.namespace, host)
            if common is not None:
                yield common


def _merged(tables: Iterable[HostTable]) -> tuple[HostTable, ...]:
    """What several rules say of one host is tried in the order of their age."""
    found: dict[str, HostTable] = {}
    for table in tables:
        known = found.get(table.host)
        if known is None:
            found[table.host] = table
        else:
            redirect = known.redirect_to_https and table.redirect_to_https
            routes = known.routes + tuple(route for route in table.routes if route not in known.routes)
            found[table.host] = replace(known, routes=routes, redirect_to_https=redirect)
    return tuple(found[host] for host in sorted(found))


def _connections(
    server: Server, rules: Sequence[VirtualService], scope: Scope, snapshot: Snapshot
) -> Iterator[GatewayChain]:
    """A chain for each rule: by SNI where it looks at one. A TCP server has one place to lead to, the first rule's."""
    for rule in rules:
        if not rule.is_for(server.bound_by) or not any(_shared(server, rule)):
            continue
        said: tuple[ConnectionRule, ...] = rule.tcp if server.traffic is Traffic.TCP or _terminates(server) else ()
        for each in (*(() if server.traffic is Traffic.TCP else rule.tls), *said):
            for match in each.matches or (ConnectionMatch(),):
                if match.port not in (0, server.port) or server.bound_by not in (match.gateways or rule.gateways):
                    continue
                names = tuple(name for name in match.sni_hosts if _is_served(server, name))
                if match.sni_hosts and not names:
                    continue
                yield GatewayChain(
                    sni_hosts=names,
                    clusters=connection_clusters(each, server.port, snapshot),
                    treatment=connection_treatment(each, scope, server.port, snapshot),
                )
                if server.traffic is Traffic.TCP:
                    return


def _terminates(server: Server) -> bool:
    return server.tls is not None and server.tls.mode is not TlsMode.PASSTHROUGH


def _is_served(server: Server, name: str) -> bool:
    return any(covers(each.host, name) or covers(name, each.host) for each in server.hosts)
