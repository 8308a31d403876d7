"""Servers that cannot be told apart: whose Gateways choose the same proxies, for the same port, and of which one alone can be served.

The oldest is. Discovery does so for the proxies that it sees; here the others' writers are told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from isthmus.model.gateways import Server, Traffic
from isthmus.model.issues import Issue, Severity, Subject
from isthmus.model.names import ClusterId


def gateway_conflicts(servers: Sequence[Server], cluster: ClusterId) -> Iterator[Issue]:
    """One for each server of which something is not served. `servers` have the oldest first."""
    by_port: dict[tuple[int, str], list[Server]] = defaultdict(list)
    for server in servers:
        before = [other for other in by_port[server.port, server.bind] if _share_proxies(other, server)]
        by_port[server.port, server.bind].append(server)
        lost = _lost_to(server, before)
        if lost is not None:
            other, what = lost
            yield Issue(
                subject=Subject(cluster, "Gateway", server.namespace, server.gateway),
                code="ISM0407",
                severity=Severity.WARNING,
                what=f"port {server.port}: {what} Gateway {other.namespace}/{other.gateway}, which is older",
                fix="use another port, or other host names, or let the Gateways choose different proxies",
                field=f"spec.servers[{server.index}]",
            )


def _share_proxies(one: Server, other: Server) -> bool:
    """Whether every proxy that one chooses is the other's, too. Two that merely may have proxies in common are not judged."""
    a, b = set(one.selector), set(other.selector)
    return (a <= b or b <= a) and (one.within == other.within or not (one.within and other.within))


def _lost_to(server: Server, before: Sequence[Server]) -> tuple[Server, str] | None:
    """The older server that takes something from this one, and what."""
    if not before:
        return None
    first = before[0]
    if server.kind is not first.kind:
        return first, f"is not served as {server.traffic}: it is {first.traffic} for"
    if server.kind is Traffic.TCP and server.bound_by != first.bound_by:
        return first, "bytes have no name to be told apart by: all go where a rule sends them for"
    if server.kind is Traffic.TLS:
        for other in before:
            names = {host.host for host in other.hosts} & {host.host for host in server.hosts}
            if names and (server.bound_by, server.traffic) != (other.bound_by, other.traffic):
                return other, f"TLS for {', '.join(sorted(names))} is ended by"
    return None
